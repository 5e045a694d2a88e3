/** Text: words of a result: JSON laid out, lists of records as a table, everything else as Markdown or plain. */

import { lazy, Suspense, useMemo } from "react";

import { dumpJson, parseJson } from "../../model/json";
import { asTable, fromCsv } from "../../model/table";
import { Markdown } from "./Markdown";

const TableView = lazy(() => import("./TableView"));

export function Text({ text, json, csv, live }: { text: string; json?: boolean; csv?: boolean; live?: boolean }) {
  const value = useMemo(() => {
    if (csv) return fromCsv(text);
    if (live || (!json && !/^\s*[[{]/.test(text))) return undefined;
    try {
      return parseJson(text);
    } catch {
      return undefined;
    }
  }, [text, json, csv, live]);
  if (value !== undefined && typeof value === "object") return <Value value={value} />;
  return <div className={`text nowheel nodrag ${live ? "live" : ""}`}>{/^#{1,3} |\*\*|^[-*] |```/m.test(text) && !live ? <Markdown text={text} /> : text}</div>;
}

export function Value({ value }: { value: unknown }) {
  const table = useMemo(() => asTable(value), [value]);
  if (table) return <Suspense><TableView table={table} /></Suspense>;
  return <pre className="text nowheel nodrag">{(dumpJson(value, 2) ?? "").slice(0, 100_000)}</pre>;
}
