/** Text: words of a result: JSON laid out, lists of records as a table, everything else as Markdown or plain. */

import { useMemo } from "react";

import { dumpJson, isObject, parseJson } from "../../model/json";
import { Markdown } from "./Markdown";

const ROWS = 200;

export function Text({ text, json, live }: { text: string; json?: boolean; live?: boolean }) {
  const value = useMemo(() => {
    if (live || (!json && !/^\s*[[{]/.test(text))) return undefined;
    try {
      return parseJson(text);
    } catch {
      return undefined;
    }
  }, [text, json, live]);
  if (value !== undefined && typeof value === "object") return <Value value={value} />;
  return <div className={`text nowheel nodrag ${live ? "live" : ""}`}>{/^#{1,3} |\*\*|^[-*] |```/m.test(text) && !live ? <Markdown text={text} /> : text}</div>;
}

export function Value({ value }: { value: unknown }) {
  if (Array.isArray(value) && value.length && value.every(isObject)) {
    const rows = value as Record<string, unknown>[];
    const columns = [...new Set(rows.slice(0, 50).flatMap(Object.keys))].slice(0, 12);
    return (
      <div className="text nowheel nodrag">
        <table>
          <thead><tr>{columns.map((column) => <th key={column}>{column}</th>)}</tr></thead>
          <tbody>{rows.slice(0, ROWS).map((row, index) => <tr key={index}>{columns.map((column) => <td key={column}>{cell(row[column])}</td>)}</tr>)}</tbody>
        </table>
        {rows.length > ROWS && <p className="quiet">… {rows.length - ROWS}</p>}
      </div>
    );
  }
  return <pre className="text nowheel nodrag">{(dumpJson(value, 2) ?? "").slice(0, 100_000)}</pre>;
}

function cell(value: unknown): string {
  return typeof value === "object" && value !== null ? dumpJson(value) : String(value ?? "");
}
