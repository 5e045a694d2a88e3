/** Runs: the state of every run that this page follows. Events are taken in once per frame, however many there are. */

import type { Event } from "../api/schema";
import { t } from "../i18n/t";
import { pathOf } from "../model/subgraph";
import { apply, ENDED, newRun, shown, stateOf, type NodeRun, type RunState, type Shown } from "./run";
import { Store, useStore } from "./store";
import { activeOf, workspace } from "./workspace";

export const runs = new Store<Readonly<Record<string, RunState>>>({});

const inbox = new Map<string, Event[]>();
const ends = new Set<(run: RunState) => void>();
let waiting = false;

export function hear(run: string, events: readonly Event[]): void {
  const known = inbox.get(run);
  if (known) known.push(...events);
  else inbox.set(run, [...events]);
  if (waiting) return;
  waiting = true;
  // a page in the background has no frames, but its runs go on
  if (document.hidden) setTimeout(takeIn, 100);
  else requestAnimationFrame(takeIn);
}

function takeIn(): void {
  waiting = false;
  const ended: RunState[] = [];
  runs.set((now) => {
    const next = { ...now };
    for (const [id, events] of inbox) {
      const before = next[id] ?? newRun(id, "");
      next[id] = apply(before, events);
      if (ENDED.has(next[id].status) && !ENDED.has(before.status)) ended.push(next[id]);
    }
    inbox.clear();
    return next;
  });
  for (const run of ended) for (const listener of ends) listener(run);
}

/** The server does not know it: it was replaced, or its data was. */
export function lose(run: string): void {
  const state = runs.get()[run];
  if (!state || ENDED.has(state.status)) return;
  hear(run, [{ seq: 0, type: "finished", status: "failed", errors: [{ code: "unknown_run", message: t("run.gone"), remedy: t("run.gone.remedy") }] }]);
}

export function onEnd(listener: (run: RunState) => void): () => void {
  ends.add(listener);
  return () => ends.delete(listener);
}

/** Know of a run before its first event, or as its record tells it. */
export function know(state: RunState): void {
  runs.set((now) => ({ ...now, [state.id]: now[state.id] && !ENDED.has(state.status) ? { ...now[state.id]!, name: state.name, before: state.before, instances: state.instances } : state }));
}

export function useRun(id: string | null): RunState | undefined {
  return useStore(runs, (all) => (id ? all[id] : undefined));
}

/** A node of the canvas is in the subgraph that was entered. */
function usePath(node: string): string {
  return useStore(workspace, (space) => pathOf(activeOf(space).inside, node));
}

export function useNodeRun(run: string | null, node: string): NodeRun | undefined {
  const path = usePath(node);
  return useStore(runs, (all) => (run ? stateOf(all[run], path) : undefined));
}

export function useShown(run: string | null, node: string): Shown | undefined {
  const path = usePath(node);
  return useStore(runs, (all) => shown(run ? all[run] : undefined, path));
}
