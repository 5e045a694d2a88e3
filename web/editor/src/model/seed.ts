/** What becomes of seeds once a run was started. */

import type { Doc, SeedControl } from "./document";
import { setValue } from "./edit";
import { inputsOf, valueOf, type Catalog } from "./nodetype";
import { setSubgraph } from "./subgraph";

const TOP = 2 ** 48;
export const CONTROLS: readonly SeedControl[] = ["fixed", "increment", "decrement", "randomize"];

export function randomSeed(random: () => number = Math.random): number {
  return Math.floor(random() * TOP);
}

export function advance(doc: Doc, catalog: Catalog, random: () => number = Math.random): Doc {
  let next = advanceNodes(doc, catalog, random);
  for (const [name, part] of Object.entries(doc.subgraphs ?? {})) {
    const { nodes } = advanceNodes({ ...doc, nodes: part.nodes }, catalog, random);
    if (nodes !== part.nodes) next = setSubgraph(next, name, (now) => ({ ...now, nodes }));
  }
  return next;
}

function advanceNodes(doc: Doc, catalog: Catalog, random: () => number): Doc {
  let next = doc;
  for (const [id, node] of Object.entries(doc.nodes)) {
    for (const [name, control] of Object.entries(node.ui?.control ?? {})) {
      const input = inputsOf(catalog.of(node), node).find((port) => port.name === name);
      if (!input || input.widget?.control !== "seed" || control === "fixed" || node.links?.[name]) continue;
      const value = valueOf(node, input);
      const now = typeof value === "bigint" ? value : BigInt(Math.trunc(Number(value ?? 0)));
      const step = control === "increment" ? now + 1n : now > 0n ? now - 1n : 0n;
      const small = step <= BigInt(Number.MAX_SAFE_INTEGER);
      next = setValue(next, id, name, control === "randomize" ? randomSeed(random) : small ? Number(step) : step);
    }
  }
  return next;
}
