/** Table: rows of cells under names, out of what results look like: tables, lists of records, lists of lists, CSV. */

import { isObject } from "./json";
import { naturally } from "./nodetype";

export interface Table {
  columns: string[];
  rows: unknown[][];
}

export function asTable(value: unknown): Table | undefined {
  if (isObject(value)) {
    const { columns, rows } = value;
    if (Array.isArray(columns) && Array.isArray(rows) && rows.every((row) => Array.isArray(row) && row.length === columns.length)) return { columns: columns.map(String), rows: rows as unknown[][] };
    const lists = Object.entries(value);
    const [, first] = lists[0] ?? [];
    if (Array.isArray(first) && first.length > 1 && lists.every(([, list]) => Array.isArray(list) && list.length === first.length && list.every(isPlain))) {
      return { columns: lists.map(([name]) => name), rows: first.map((_unused, at) => lists.map(([, list]) => (list as unknown[])[at])) };
    }
    return undefined;
  }
  if (!Array.isArray(value) || !value.length) return undefined;
  if (value.every(isObject)) {
    const records = value as Record<string, unknown>[];
    const columns = [...new Set(records.slice(0, 100).flatMap(Object.keys))];
    return columns.length ? { columns, rows: records.map((record) => columns.map((column) => record[column])) } : undefined;
  }
  if (value.length > 2 && value.every((one) => typeof one === "number")) return { columns: ["#", "value"], rows: value.map((one, at) => [at, one]) };
  const lists = value as unknown[];
  if (lists.every((row) => Array.isArray(row) && row.length === (lists[0] as unknown[]).length && row.length && row.every(isPlain))) return fromRows(lists as unknown[][]);
  return undefined;
}

/** Separated values with quotes as RFC 4180 has them; the separator is the one that the first line has most of. */
export function fromCsv(text: string): Table | undefined {
  const head = text.slice(0, text.search(/[\r\n]|$/));
  const separator = [",", ";", "\t"].reduce((best, one) => (head.split(one).length > head.split(best).length ? one : best));
  const rows: string[][] = [[]];
  let [cell, quoted, at] = ["", false, 0];
  const close = (): void => {
    rows[rows.length - 1]!.push(cell);
    cell = "";
  };
  for (; at < text.length; at++) {
    const letter = text[at]!;
    if (quoted) {
      if (letter !== '"') cell += letter;
      else if (text[at + 1] === '"') cell += text[++at]!;
      else quoted = false;
    } else if (letter === '"' && !cell) quoted = true;
    else if (letter === separator) close();
    else if (letter === "\n") {
      close();
      rows.push([]);
    } else if (letter !== "\r") cell += letter;
  }
  close();
  const [names, ...rest] = rows;
  const full = rest.filter((row) => row.length === names!.length && (row.length > 1 || row[0]));
  if (!names?.length || names.length < 2 || !full.length) return undefined;
  return { columns: names, rows: full.map((row) => row.map(plain)) };
}

function plain(cell: string): unknown {
  return /^-?\d+(\.\d+)?([eE][-+]?\d+)?$/.test(cell) && cell.length < 16 ? Number(cell) : cell;
}

function isPlain(value: unknown): boolean {
  return value === null || typeof value !== "object";
}

function fromRows(rows: unknown[][]): Table {
  const [head, ...rest] = rows;
  const named = rest.length > 0 && head!.every((cell) => typeof cell === "string") && rest.some((row) => row.some((cell) => typeof cell !== "string"));
  return named ? { columns: head!.map(String), rows: rest } : { columns: head!.map((_unused, at) => String(at + 1)), rows };
}

/** Columns that hold nothing but numbers, and at least one. */
export function numbersIn({ columns, rows }: Table): number[] {
  return columns.flatMap((_name, at) => {
    const cells = rows.map((row) => row[at]).filter((cell) => cell !== null && cell !== undefined);
    return cells.length && cells.every((cell) => typeof cell === "number" || typeof cell === "bigint") ? [at] : [];
  });
}

/** Numbers by size, words as people count; what is empty comes last either way. */
export function sorted(rows: readonly unknown[][], column: number, down: boolean): unknown[][] {
  const empty = (cell: unknown): boolean => cell === null || cell === undefined || cell === "";
  return [...rows].sort((one, two) => {
    const [a, b] = [one[column], two[column]];
    if (empty(a) || empty(b)) return Number(empty(a)) - Number(empty(b));
    const order = typeof a === "number" && typeof b === "number" ? a - b : naturally(String(a), String(b));
    return down ? -order : order;
  });
}
