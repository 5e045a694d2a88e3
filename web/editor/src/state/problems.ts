/** Problems: what is wrong with the active workflow: found here, said by the server, or happened in its last run. */

import { server } from "./server";
import { refusals } from "./running";
import { runs } from "./runs";
import { Store, useStore } from "./store";
import { activeOf, workspace } from "./workspace";
import { validate, type Problem } from "../model/validate";

export interface Found extends Problem {
  from: "check" | "server" | "run";
}

export const problems = new Store<readonly Found[]>([]);
const NONE: readonly Found[] = [];
let byNode = new Map<string, readonly Found[]>();
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
  const inputs = [doc, catalog, refusals.get()[tab.id], run?.errors];
  if (inputs.every((input, index) => input === last[index])) return;
  last = inputs;
  const found: Found[] = ready ? validate(doc, catalog).map((problem) => ({ ...problem, from: "check" })) : [];
  const known = new Set(found.map((problem) => `${problem.code} ${problem.node} ${problem.port}`));
  const refused = refusals.get()[tab.id];
  for (const problem of refused?.problems ?? []) {
    const [then, now] = [refused!.doc.nodes[problem.node ?? ""], doc.nodes[problem.node ?? ""]];
    if (then?.links !== now?.links || then?.values !== now?.values) continue; // something was done about it
    if (!known.has(`${problem.code} ${problem.node} ${problem.port}`)) found.push({ ...problem, from: "server" });
  }
  for (const problem of run?.errors ?? []) found.push({ ...problem, from: "run" });
  byNode = new Map();
  for (const problem of found) {
    if (problem.node) byNode.set(problem.node, [...(byNode.get(problem.node) ?? []), problem]);
  }
  problems.set(found);
}

workspace.subscribe(later);
server.subscribe(later);
refusals.subscribe(later);
runs.subscribe(later);

/** Of a node that is being built, what is merely missing is no reason for a red frame: only faults that a run has met are. */
export function useNodeProblems(node: string): readonly Found[] {
  return useStore(problems, () => byNode.get(node) ?? NONE);
}
