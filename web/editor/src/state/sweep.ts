/** Sweeps: how much one would be, its runs, and where they stand. The last one of each tab is there again after a reload. */

import { get, send } from "../api/http";
import type { Run, Tally } from "../api/schema";
import { t } from "../i18n/t";
import { splitLink } from "../model/document";
import { setValue } from "../model/edit";
import { dumpJson, parseJson, type Json } from "../model/json";
import { axesOf, fieldOf, labelOf, Refused, toggleAxis, valuesOf, MAX_RUNS, type Axis } from "../model/sweep";
import { newRun, ofRecord, ENDED } from "./run";
import { cancel, pinsOf } from "./running";
import { know, runs } from "./runs";
import { screen, toast } from "./screen";
import { learnRuns, server, socket, tell } from "./server";
import { Store } from "./store";
import { active, activeOf, changeWhole, runName, titleOf, workspace } from "./workspace";

export interface Cell {
  values: Record<string, Json>;
  run: string;
}
export interface Swept {
  axes: Axis[];
  cells: Cell[];
  tally: Tally;
  title: string;
}

const KEY = "anyloom.sweeps";
const KEPT = 8;

/** by tab */
export const sweeps = new Store<Readonly<Record<string, Swept>>>(read());

/** "node.input" of the active workflow's axes, for the marks on fields */
export const marked = new Store<ReadonlySet<string>>(new Set());
let seen: unknown;
workspace.subscribe(() => {
  const doc = activeOf(workspace.get()).history.present;
  if (doc.ui?.["sweep"] === seen) return;
  seen = doc.ui?.["sweep"];
  marked.set(new Set(axesOf(doc).map((axis) => axis.input)));
});

function read(): Record<string, Swept> {
  try {
    return parseJson(localStorage.getItem(KEY) ?? "{}") as Record<string, Swept>;
  } catch {
    return {};
  }
}

function remember(tab: string, swept: Swept): void {
  sweeps.set((now) => {
    const rest = Object.entries(now).filter(([id]) => id !== tab);
    return Object.fromEntries([...rest.slice(-KEPT + 1), [tab, swept]]);
  });
  try {
    localStorage.setItem(KEY, dumpJson(sweeps.get()));
  } catch {
    // a full storage: the grid is there until the page is closed
  }
}

export interface Wish {
  axes: Axis[];
  /** by input: the part of its text that is no value */
  wrong: Record<string, string>;
  runs: number;
}

/** What is marked and typed in the active workflow. */
export function wish(): Wish {
  const doc = active().history.present;
  const { catalog } = server.get();
  const wrong: Record<string, string> = {};
  const axes = axesOf(doc).flatMap(({ input, text }) => {
    const field = fieldOf(doc, catalog, input);
    try {
      const values = field ? valuesOf(text, field) : [];
      if (!values.length) wrong[input] = "";
      return [{ input, label: labelOf(doc, catalog, input), values }];
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      wrong[input] = error.message;
      return [];
    }
  });
  return { axes, wrong, runs: Object.keys(wrong).length ? 0 : axes.reduce((count, axis) => count * axis.values.length, axes.length ? 1 : 0) };
}

function submission({ axes }: Wish): Record<string, unknown> {
  const tab = active();
  const document = tab.history.present;
  return { document, name: runName(tab), axes: axes.map(({ input, values }) => ({ input, values })), ...pinsOf(document) };
}

/** Undefined when it cannot be told: something is wrong with the workflow, which is said elsewhere. */
export async function count(now: Wish): Promise<Tally | undefined> {
  if (!now.runs || now.runs > MAX_RUNS) return undefined;
  try {
    return await send<Tally>("POST", "/api/v1/sweeps/plan", {}, submission(now));
  } catch {
    return undefined;
  }
}

export async function start(now: Wish): Promise<void> {
  const tab = active();
  try {
    const made = await send<{ tally: Tally; cells: { values: Record<string, Json>; run: Run }[] }>("POST", "/api/v1/sweeps", {}, submission(now));
    for (const { run } of made.cells) {
      know(newRun(run.id, run.name, run.nodes));
      void socket.watch(run.id);
    }
    remember(tab.id, { axes: now.axes, tally: made.tally, title: titleOf(tab), cells: made.cells.map(({ values, run }) => ({ values, run: run.id })) });
    void learnRuns();
  } catch (error) {
    tell(error);
  }
}

export async function stop(swept: Swept): Promise<void> {
  await Promise.all(swept.cells.filter(({ run }) => !ENDED.has(runs.get()[run]?.status ?? "")).map(({ run }) => cancel(run)));
}

/** Results of runs that this page has not followed. */
export async function revive(swept: Swept): Promise<void> {
  for (const { run } of swept.cells) {
    if (runs.get()[run]) continue;
    try {
      const record = await get<Run>("/api/v1/runs/{id}", { id: run });
      know(ofRecord(record));
      if (!ENDED.has(record.status)) await socket.watch(run);
    } catch {
      return; // forgotten by the server, and the others with it
    }
  }
}

/** The values of a cell, written into the workflow. */
export function use(cell: Cell): void {
  changeWhole(t("sweep.use"), (doc) => Object.entries(cell.values).reduce((now, [input, value]) => setValue(now, ...splitLink(input), value), doc));
  toast(t("sweep.used"), "done");
}

export function vary(input: string): void {
  const before = active().history.present;
  changeWhole(t("cmd.sweep"), (doc) => toggleAxis(doc, server.get().catalog, input));
  if (active().history.present !== before) screen.patch({ sheet: { kind: "sweep" } });
}
