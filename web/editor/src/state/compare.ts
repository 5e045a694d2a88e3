/** Comparing: what two sides are, out of tabs, the library, its versions, and runs. */

import { get } from "../api/http";
import type { Run } from "../api/schema";
import { t } from "../i18n/t";
import { toDoc, type Doc } from "../model/document";
import { screen, type Side } from "./screen";
import { server } from "./server";
import { active, titleOf, workspace } from "./workspace";

export interface Content {
  doc: Doc;
  /** of a run: node -> port -> value */
  result?: Run["result"];
}

/** Raises ApiError for what is not there any more, DocumentRefused for what cannot be read. */
export async function contentOf(side: Side): Promise<Content> {
  switch (side.kind) {
    case "tab":
      return { doc: (workspace.get().tabs.find((tab) => tab.id === side.id) ?? active()).history.present };
    case "saved":
      return { doc: toDoc(await get<unknown>("/api/v1/documents/{name}", { name: side.name })) };
    case "version":
      return { doc: toDoc(await get<unknown>("/api/v1/versions/{name}", { name: side.name }, { version: side.id })) };
    case "run": {
      const [document, record] = await Promise.all([get<unknown>("/api/v1/runs/{id}/document", { id: side.id }), get<Run>("/api/v1/runs/{id}", { id: side.id })]);
      return { doc: toDoc(document), result: record.result };
    }
  }
}

export interface Version {
  id: string;
  replaced: number;
}

/** What can be compared with the active workflow: itself, what is kept under its name, and runs. */
export function choices(versions: readonly Version[]): { label: string; sides: { key: string; label: string; side: Side }[] }[] {
  const tab = active();
  const entry = (side: Side, label: string): { key: string; label: string; side: Side } => ({ key: keyOf(side), label, side });
  const tabs = workspace.get().tabs.map((one) => entry({ kind: "tab", id: one.id }, `${titleOf(one) || t("untitled")}${one.id === tab.id ? ` (${t("compare.now")})` : ""}`));
  const kept = tab.name === null ? [] : [
    entry({ kind: "saved", name: tab.name }, t("compare.saved", { name: tab.name })),
    ...versions.map((one) => entry({ kind: "version", name: tab.name!, id: one.id }, new Date(one.replaced * 1000).toLocaleString())),
  ];
  const runs = server.get().history.map((run) => entry({ kind: "run", id: run.id }, `#${run.number} ${run.name || t("untitled")} · ${new Date(run.created * 1000).toLocaleTimeString()}`));
  return [{ label: t("tabs"), sides: tabs }, { label: t("versions"), sides: kept }, { label: t("panel.runs"), sides: runs }].filter((group) => group.sides.length);
}

export function keyOf(side: Side): string {
  return JSON.stringify(side);
}

/** With what is kept, where the workflow has a name; else with itself, until something is chosen. */
export function compareActive(): void {
  const tab = active();
  const after: Side = { kind: "tab", id: tab.id };
  screen.patch({ sheet: { kind: "compare", before: tab.name === null ? after : { kind: "saved", name: tab.name }, after } });
}

/** A run with the one that came before it under the same name, where there is one. */
export function compareRun(run: Run): void {
  const earlier = server.get().history.filter((one) => one.number < run.number && one.status !== "cancelled");
  const before = earlier.find((one) => one.name === run.name) ?? earlier[0] ?? run;
  screen.patch({ sheet: { kind: "compare", before: { kind: "run", id: before.id }, after: { kind: "run", id: run.id } } });
}
