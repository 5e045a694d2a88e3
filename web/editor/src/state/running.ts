/** Running: submit, cancel, load back. */

import { ApiError, get, send } from "../api/http";
import type { Outlook, Problem, Run } from "../api/schema";
import { t } from "../i18n/t";
import { toDoc, type Doc } from "../model/document";
import type { Json } from "../model/json";
import { advance } from "../model/seed";
import { instances, nodeAt } from "../model/subgraph";
import { Auto } from "./auto";
import { newRun, ofRecord, ENDED } from "./run";
import { know, onEnd, runs } from "./runs";
import { screen, toast } from "./screen";
import { learnRuns, server, socket, tell } from "./server";
import { settings } from "./settings";
import { Store } from "./store";
import { active, amend, newTab, openTab, runName, setTab, workspace } from "./workspace";

/** What the server said about the last submission of a tab, and about which document. */
export const refusals = new Store<Readonly<Record<string, { doc: Doc; problems: Problem[] }>>>({});
/** submissions on their way */
export const sending = new Store(0);

export interface Wish {
  targets?: string[];
  values?: Record<string, Json>;
  priority?: number;
  quiet?: boolean;
  /** instead of the tab's own */
  document?: Doc;
}

export async function run(wish: Wish = {}): Promise<string | undefined> {
  const tab = active();
  const doc = tab.history.present;
  if (!Object.keys(doc.nodes).length) {
    toast(t("run.empty"), "info");
    return undefined;
  }
  const { targets, values, priority, document = doc } = wish;
  sending.set((count) => count + 1);
  try {
    const record = await socket.request<Run>("submit", { document, name: runName(tab), watch: true, targets, values, priority, ...stops(document) });
    socket.adopt(record.id);
    know(newRun(record.id, record.name, record.nodes, tab.run ? runs.get()[tab.run] : undefined, membersOf(document)));
    refusals.set((now) => ({ ...now, [tab.id]: { doc, problems: [] } }));
    setTab(tab.id, (now) => ({ ...now, run: record.id }));
    amend(tab.id, (now) => advance(now, server.get().catalog));
    void learnRuns();
    return record.id;
  } catch (error) {
    if (error instanceof ApiError && error.status === 422) {
      refusals.set((now) => ({ ...now, [tab.id]: { doc, problems: error.problems } }));
      if (!wish.quiet) screen.patch({ panel: "problems" });
    } else tell(error);
    return undefined;
  } finally {
    sending.set((count) => count - 1);
  }
}

/** The nodes in each instance of a subgraph. */
export function membersOf(doc: Doc): ReadonlyMap<string, readonly string[]> {
  return new Map([...instances(doc)].map(([path, one]) => [path, one.nodes]));
}

/** What the document says about how it is run: outputs that hold, and where to pause. */
function stops(doc: Doc): { pins?: Record<string, string>; breakpoints?: string[] } {
  const runs = (path: string): boolean => path.split("/").every((_id, depth, ids) => (nodeAt(doc, ids.slice(0, depth + 1).join("/"))?.mode ?? "active") === "active");
  const breakpoints = everyNode(doc).filter(([id, node]) => node.ui?.breakpoint && runs(id)).map(([id]) => id);
  return { ...pinsOf(doc), ...(breakpoints.length ? { breakpoints } : {}) };
}

/** Nodes by path, those in subgraphs too. */
function everyNode(doc: Doc): readonly (readonly [string, NonNullable<ReturnType<typeof nodeAt>>])[] {
  const inside = instances(doc);
  const paths = new Set([...Object.keys(doc.nodes), ...inside.keys(), ...[...inside.values()].flatMap((one) => one.nodes)]);
  return [...paths].flatMap((path) => { const node = nodeAt(doc, path); return node ? [[path, node] as const] : []; });
}

export function pinsOf(doc: Doc): { pins?: Record<string, string> } {
  const pins = Object.fromEntries(everyNode(doc).flatMap(([id, node]) => (node.ui?.kept ? [[id, node.ui.kept]] : [])));
  return Object.keys(pins).length ? { pins } : {};
}

/** What a run would cost, before it is started. */
export async function outlook(): Promise<Outlook | undefined> {
  try {
    return await send<Outlook>("POST", "/api/v1/plan", {}, { document: active().history.present });
  } catch {
    return undefined; // what is wrong with the workflow is said elsewhere
  }
}

export async function goOn(id: string, node?: string): Promise<void> {
  try {
    await send("POST", "/api/v1/runs/{id}/continue", { id }, node ? { node } : {});
  } catch (error) {
    tell(error);
  }
}

export async function hold(on: boolean): Promise<void> {
  try {
    await send("POST", on ? "/api/v1/queue/hold" : "/api/v1/queue/release");
  } catch (error) {
    tell(error);
  }
}

export async function prioritise(id: string, priority: number): Promise<void> {
  try {
    await send("POST", "/api/v1/runs/{id}/priority", { id }, { priority: Math.max(-1000, Math.min(1000, priority)) });
  } catch (error) {
    tell(error);
  }
}

export async function cancel(id: string): Promise<void> {
  try {
    await send("POST", "/api/v1/runs/{id}/cancel", { id });
  } catch (error) {
    tell(error);
  }
}

export async function cancelAll(): Promise<void> {
  await Promise.all(Object.values(runs.get()).filter((state) => !ENDED.has(state.status)).map((state) => cancel(state.id)));
  for (const record of server.get().history) if (!ENDED.has(record.status)) await cancel(record.id);
  void learnRuns();
}

/** A run of the past: its workflow in a tab, its results on the nodes. */
export async function loadBack(record: Run): Promise<void> {
  try {
    const doc = toDoc(await get<unknown>("/api/v1/runs/{id}/document", { id: record.id }));
    know(ofRecord(await get<Run>("/api/v1/runs/{id}", { id: record.id }), membersOf(doc)));
    openTab(newTab(doc, record.name || t("untitled"), { run: record.id }));
    if (!ENDED.has(record.status)) await socket.watch(record.id);
  } catch (error) {
    tell(error);
  }
}

/** After a reload: results of the runs that the tabs show, and the events of those that go on. */
export async function reviveRuns(): Promise<void> {
  for (const tab of workspace.get().tabs) {
    if (!tab.run || runs.get()[tab.run]) continue;
    try {
      const record = await get<Run>("/api/v1/runs/{id}", { id: tab.run });
      know(ofRecord(record, membersOf(tab.history.present)));
      await socket.watch(tab.run);
    } catch {
      setTab(tab.id, (now) => ({ ...now, run: null })); // forgotten by the server
    }
  }
}

/** The same for runs that are not a tab's, as the turns of a chat are: one that is forgotten has failed. */
export async function revive(ids: readonly string[], doc: Doc): Promise<void> {
  for (const id of ids.filter((one) => !runs.get()[one])) {
    try {
      const record = await get<Run>("/api/v1/runs/{id}", { id });
      know(ofRecord(record, membersOf(doc)));
      if (!ENDED.has(record.status)) await socket.watch(id);
    } catch {
      know({ ...newRun(id, ""), status: "failed", errors: [{ code: "unknown_run", message: t("run.gone") }] });
    }
  }
}

onEnd((state) => {
  void learnRuns();
  if (state.status === "failed" || state.status === "partial") {
    const error = state.errors[0];
    toast(t(state.status === "partial" ? "run.partial" : "run.failed", { name: state.name }), "error", {
      remedy: error ? `${error.node ? `${error.node}: ` : ""}${error.message}` : undefined,
      action: { label: t("problems.show"), run: () => screen.patch({ panel: "problems" }) },
    });
  }
});

/** Run on change: a little after the last edit, and not before what it started has ended. */
const auto = new Auto({
  busy: () => sending.get() > 0 || !ENDED.has(runs.get()[active().run ?? ""]?.status ?? "succeeded"),
  run: () => void run({ quiet: true }),
});
workspace.subscribe(() => auto.saw(active(), settings.get().runOnChange));
onEnd(() => auto.ended());
