/** Changes: what is different between two versions of a workflow. */

import type { Doc } from "./document";
import { same, without } from "./json";

export interface Change {
  node: string;
  what: "added" | "removed" | "type" | "value" | "link" | "mode";
  port?: string;
  before?: unknown;
  after?: unknown;
}

/** Places, titles and other things that no result depends on do not count. */
export function changes(before: Pick<Doc, "nodes">, after: Pick<Doc, "nodes">): Change[] {
  const found: Change[] = [];
  for (const node of new Set([...Object.keys(before.nodes), ...Object.keys(after.nodes)])) {
    const [old, now] = [before.nodes[node], after.nodes[node]];
    if (!old || !now) {
      found.push({ node, what: now ? "added" : "removed" });
      continue;
    }
    if (old.type !== now.type) found.push({ node, what: "type", before: old.type, after: now.type });
    if ((old.mode ?? "active") !== (now.mode ?? "active")) found.push({ node, what: "mode", before: old.mode ?? "active", after: now.mode ?? "active" });
    for (const [what, a, b] of [["value", old.values ?? {}, now.values ?? {}], ["link", old.links ?? {}, now.links ?? {}]] as const) {
      for (const port of new Set([...Object.keys(a), ...Object.keys(b)])) {
        if (!same(a[port], b[port])) found.push({ node, what, port, before: a[port], after: b[port] });
      }
    }
  }
  return found;
}

/** Could a run of the one give anything else than a run of the other, or other nodes be shown? */
export function matters(before: Doc, after: Doc): boolean {
  if (before === after) return false;
  if (changes(before, after).length || !same(before.targets, after.targets)) return true;
  if (before.subgraphs === after.subgraphs) return false;
  return [...new Set([...Object.keys(before.subgraphs ?? {}), ...Object.keys(after.subgraphs ?? {})])].some((name) => {
    const [old, now] = [before.subgraphs?.[name], after.subgraphs?.[name]];
    if (!old || !now) return true;
    return old !== now && (!same(without(old, "ui", "nodes"), without(now, "ui", "nodes")) || changes(old, now).length > 0);
  });
}
