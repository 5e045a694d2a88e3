/** Changes: what is different between two workflows, and so why a node had to be computed again. */

import { splitLink, type Doc } from "./document";
import { same } from "./json";

export interface Change {
  node: string;
  what: "added" | "removed" | "type" | "value" | "link" | "mode";
  port?: string;
  before?: unknown;
  after?: unknown;
}

/** Places, titles and other things that no result depends on do not count. */
export function changes(before: Doc, after: Doc): Change[] {
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

/** The changes that reached this node: its own, and those of what it reads. */
export function reasons(before: Doc, after: Doc, node: string): Change[] {
  const all = changes(before, after);
  const seen = new Set<string>();
  const open = [node];
  while (open.length) {
    const id = open.pop()!;
    if (seen.has(id)) continue;
    seen.add(id);
    for (const link of Object.values(after.nodes[id]?.links ?? {})) open.push(splitLink(String(link))[0]);
  }
  return all.filter((change) => seen.has(change.node));
}
