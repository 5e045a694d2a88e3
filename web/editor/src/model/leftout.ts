/**
 * LeftOut: which nodes a run does without, and why, as `_without_inactive` in graph.py has it: what they need comes from a muted
 * node, or past a bypassed one that hands on nothing of that kind. The server says nothing of them.
 */

import { splitLink, type Doc } from "./document";
import { inputOf, outputOf, type Catalog } from "./nodetype";

export interface LeftOut {
  port: string;
  /** the node that gives nothing */
  source: string;
  why: "muted" | "bypassed" | "before";
  /** of which a bypassed node has nothing to hand on */
  kind?: string;
}

export function leftOut(doc: Doc, catalog: Catalog): ReadonlyMap<string, LeftOut> {
  const found = new Map<string, LeftOut>();
  const readers = new Map<string, [id: string, port: string][]>();
  for (const [id, node] of Object.entries(doc.nodes)) {
    if ((node.mode ?? "active") !== "active") continue;
    const type = catalog.of(node);
    for (const [port, link] of Object.entries(node.links ?? {})) {
      if (!inputOf(type, port)?.required) continue;
      const [end, kind] = pastBypassed(doc, catalog, String(link));
      const mode = doc.nodes[end]?.mode;
      if (mode === "bypassed" || mode === "muted") found.set(id, { port, source: end, why: mode, kind });
      else if (!readers.get(end)?.push([id, port])) readers.set(end, [[id, port]]);
    }
  }
  const open = [...found.keys()];
  for (let source = open.pop(); source !== undefined; source = open.pop()) {
    if (catalog.of(doc.nodes[source]!).subgraph) continue; // perhaps only a part of what is in it
    for (const [id, port] of readers.get(source) ?? []) {
      if (found.has(id)) continue;
      found.set(id, { port, source, why: "before" });
      open.push(id);
    }
  }
  return found;
}

/** The node that a link really comes from: past bypassed ones, or the one of them that has nothing of that kind to hand on. */
function pastBypassed(doc: Doc, catalog: Catalog, link: string): [id: string, kind?: string] {
  const seen = new Set<string>();
  let [id, output] = splitLink(link);
  for (;;) {
    const node = doc.nodes[id];
    if (node?.mode !== "bypassed") return [id];
    const type = catalog.of(node);
    const kind = outputOf(type, output)?.kind ?? "*";
    if (seen.has(`${id}.${output}`)) return [id, kind];
    seen.add(`${id}.${output}`);
    const on = Object.entries(node.links ?? {}).find(([port]) => { const input = inputOf(type, port); return input && catalog.accepts(kind, input.kind); });
    if (!on) return [id, kind];
    [id, output] = splitLink(String(on[1]));
  }
}
