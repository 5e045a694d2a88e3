/** Sweep: inputs that get several values. What is typed becomes values of the input's kind; the grid is every combination. */

import type { Doc } from "./document";
import { splitLink } from "./document";
import { setDocUi } from "./edit";
import { dumpJson, isObject, parseJson, type Json } from "./json";
import { hasField, inputOf, inputsOf, labelIn, valueOf, type Catalog, type Input } from "./nodetype";

/** As it stands in a document, under `ui.sweep.axes`. */
export interface AxisSpec {
  /** "node.input" */
  input: string;
  /** as typed: see `valuesOf` */
  text: string;
}
export interface Axis {
  input: string;
  /** for people */
  label: string;
  values: Json[];
}
export const MAX_AXES = 4;
export const MAX_RUNS = 256;

export function axesOf(doc: Doc): AxisSpec[] {
  const sweep = doc.ui?.["sweep"];
  const axes = isObject(sweep) && Array.isArray(sweep["axes"]) ? (sweep["axes"] as unknown[]) : [];
  return axes.filter((axis): axis is AxisSpec => isObject(axis) && typeof axis["input"] === "string" && typeof axis["text"] === "string").slice(0, MAX_AXES);
}

export function setAxes(doc: Doc, axes: readonly AxisSpec[]): Doc {
  const ui = { ...doc.ui };
  delete ui["sweep"];
  return axes.length ? setDocUi(doc, { sweep: { axes } }) : { ...doc, ui };
}

/** The input is an axis from now on, or no longer. A new one starts with what stands there now. */
export function toggleAxis(doc: Doc, catalog: Catalog, input: string): Doc {
  const axes = axesOf(doc);
  if (axes.some((axis) => axis.input === input)) return setAxes(doc, axes.filter((axis) => axis.input !== input));
  const field = fieldOf(doc, catalog, input);
  if (!field || axes.length >= MAX_AXES) return doc;
  return setAxes(doc, [...axes, { input, text: firstText(doc, input, field) }]);
}

function firstText(doc: Doc, input: string, field: Input): string {
  if (field.kind === "BOOLEAN") return "false\ntrue";
  const now = valueOf(doc.nodes[splitLink(input)[0]]!, field);
  return now === undefined || now === null ? "" : typeof now === "string" ? now : dumpJson(now);
}

/** The input, when it is one whose field could have several values. */
export function fieldOf(doc: Doc, catalog: Catalog, input: string): Input | undefined {
  const [id, port] = splitLink(input);
  const node = doc.nodes[id];
  if (!node || (node.links && port in node.links)) return undefined;
  const found = inputOf(catalog.of(node), port);
  return found && hasField(catalog, found) ? found : undefined;
}

/** Every field that could be an axis, those of the given nodes first. */
export function fields(doc: Doc, catalog: Catalog, first: ReadonlySet<string>): { input: string; label: string }[] {
  const found = Object.entries(doc.nodes).flatMap(([id, node]) =>
    inputsOf(catalog.of(node), node)
      .filter((input) => fieldOf(doc, catalog, `${id}.${input.name}`))
      .map((input) => ({ id, input: `${id}.${input.name}`, label: labelOf(doc, catalog, `${id}.${input.name}`) })),
  );
  return [...found.filter((one) => first.has(one.id)), ...found.filter((one) => !first.has(one.id))];
}

export function labelOf(doc: Doc, catalog: Catalog, input: string): string {
  const [id, port] = splitLink(input);
  const node = doc.nodes[id];
  return node ? `${node.title || catalog.of(node).title} · ${labelIn(catalog.of(node), port)}` : `${id} · ${port.replace(/_/g, " ")}`;
}

export class Refused extends Error {}

const RANGE = /^(-?[\d.]+)\s*\.\.\s*(-?[\d.]+)(?:\s*\/\s*([\d.]+))?$/;

/**
 * The values in a text. Numbers: a list and ranges, such as `1, 5, 10..30/5` (from, to, step; without one it is 1).
 * Everything else: one value per line. Equal ones count once. Raises Refused with the part that is at fault.
 */
export function valuesOf(text: string, input: Input): Json[] {
  const found = input.kind === "INT" || input.kind === "FLOAT" ? numbers(text, input) : lines(text, input);
  return [...new Map(found.map((value) => [dumpJson(value), value])).values()];
}

function numbers(text: string, input: Input): Json[] {
  const found: Json[] = [];
  for (const part of text.split(/[,;\n]/).map((word) => word.trim()).filter(Boolean)) {
    const range = RANGE.exec(part);
    if (!range) {
      found.push(number(part, input));
      continue;
    }
    const [from, to, step] = [Number(range[1]), Number(range[2]), Number(range[3] ?? 1)];
    if (![from, to, step].every(Number.isFinite) || step <= 0) throw new Refused(part);
    const count = Math.floor(Math.abs(to - from) / step + 1e-9) + 1;
    if (count > MAX_RUNS) throw new Refused(part);
    // counted in steps, so that tenths do not add up to what is no tenth
    for (let index = 0; index < count; index++) found.push(number(String(Number((from + Math.sign(to - from) * index * step).toPrecision(12))), input));
  }
  return found;
}

function number(text: string, input: Input): Json {
  const whole = /^-?\d+$/.test(text);
  if (input.kind === "INT" && !whole) throw new Refused(text);
  const value = Number(text);
  if (!Number.isFinite(value) || value < (input.widget?.min ?? -Infinity) || value > (input.widget?.max ?? Infinity)) throw new Refused(text);
  return whole && !Number.isSafeInteger(value) ? BigInt(text) : value;
}

function lines(text: string, input: Input): Json[] {
  const parts = text.split("\n").filter((line) => line.trim() !== "");
  if (input.kind === "COMBO") {
    const options = input.widget?.options ?? [];
    return options.length ? options.filter((option) => parts.includes(option)) : parts;
  }
  if (input.kind === "STRING") return parts;
  return parts.map((part) => {
    try {
      return parseJson(part) as Json;
    } catch {
      throw new Refused(part);
    }
  });
}

/** Axes as rows, columns and, of more than two, one grid per combination of the others. Indices into the cells. */
export function layout(axes: readonly Axis[]): { title: Json[]; rows: Json[][]; columns: Json[]; first: number }[] {
  const columns = axes[axes.length - 1]?.values ?? [];
  const rows = axes.length > 1 ? axes[axes.length - 2]!.values.map((value) => [value]) : [[]];
  let titles: Json[][] = [[]];
  for (const axis of axes.slice(0, -2)) titles = titles.flatMap((title) => axis.values.map((value) => [...title, value]));
  return titles.map((title, index) => ({ title, rows, columns, first: index * rows.length * columns.length }));
}

export function shortly(value: Json, length = 40): string {
  const text = typeof value === "string" ? value : dumpJson(value);
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}
