/** Problems: what is wrong with the active workflow: found here, said by the server, or happened in its last run. */

import { server } from "./server";
import { refusals } from "./running";
import { runs } from "./runs";
import { Store, useStore } from "./store";
import { activeOf, here, workspace } from "./workspace";
import { checkAll } from "../model/check";
import { leftOut, type LeftOut } from "../model/leftout";
import { nodeAt, pathOf } from "../model/subgraph";
import type { Problem } from "../model/validate";

export interface Found extends Problem {
  from: "check" | "server" | "run";
}

export const problems = new Store<readonly Found[]>([]);
const NONE: readonly Found[] = [];
let byNode = new Map<string, readonly Found[]>();
let out = new Map<string, LeftOut & { title: string }>();
let timer: ReturnType<typeof setTimeout> | undefined;
let last: unknown[] = [];

/** Looked at again a moment after a change; typing is never waited for. */
function later(): void {
  clearTimeout(timer);
  timer = setTimeout(check, 120);
}

function check(): void {
  const tab = activeOf(workspace.get());
  const { catalog, ready } = server.get();
  const doc = tab.history.present;
  const run = tab.run ? runs.get()[tab.run] : undefined;
  const inputs = [doc, catalog, refusals.get()[tab.id], run?.errors, tab.inside];
  if (inputs.every((input, index) => input === last[index])) return;
  last = inputs;
  const found: Found[] = ready ? checkAll(doc, catalog).map((problem) => ({ ...problem, from: "check" })) : [];
  const known = new Set(found.map((problem) => `${problem.code} ${problem.node} ${problem.port}`));
  const refused = refusals.get()[tab.id];
  for (const problem of refused?.problems ?? []) {
    const [then, now] = [nodeAt(refused!.doc, problem.node ?? ""), nodeAt(doc, problem.node ?? "")];
    if (then?.links !== now?.links || then?.values !== now?.values) continue; // something was done about it
    if (!known.has(`${problem.code} ${problem.node} ${problem.port}`)) found.push({ ...problem, from: "server" });
  }
  for (const problem of run?.errors ?? []) found.push({ ...problem, from: "run" });
  byNode = new Map();
  for (const problem of found) {
    if (!problem.node) continue;
    tell(problem.node, problem);
    for (let end = problem.node.lastIndexOf("/"); end > 0; end = problem.node.lastIndexOf("/", end - 1)) {
      tell(problem.node.slice(0, end), { ...problem, port: undefined, message: `${problem.node.slice(end + 1)}: ${problem.message}` });
    }
  }
  const { nodes } = here(tab);
  const titleOf = (id: string): string => nodes[id]!.title || catalog.of(nodes[id]!).title;
  out = new Map(ready ? [...leftOut(here(tab), catalog)].map(([id, why]) => [pathOf(tab.inside, id), { ...why, title: titleOf(why.source) }]) : []);
  problems.set(found);
}

/** Also at the instances that it is in. */
function tell(node: string, problem: Found): void {
  byNode.set(node, [...(byNode.get(node) ?? []), problem]);
}

workspace.subscribe(later);
server.subscribe(later);
refusals.subscribe(later);
runs.subscribe(later);

/** Of a node that is being built, what is merely missing is no reason for a red frame: only faults that a run has met are. */
export function useNodeProblems(node: string): readonly Found[] {
  const path = useStore(workspace, (space) => pathOf(activeOf(space).inside, node));
  return useStore(problems, () => byNode.get(path) ?? NONE);
}

/** Why runs do without a node of the canvas. */
export function useLeftOut(node: string): (LeftOut & { title: string }) | undefined {
  const path = useStore(workspace, (space) => pathOf(activeOf(space).inside, node));
  return useStore(problems, () => out.get(path));
}
