/** Check: what is wrong in a workflow, that of its subgraphs included: once each, by the path of its first instance. */

import type { Doc } from "./document";
import type { Catalog } from "./nodetype";
import { view } from "./scope";
import { definitionOf, pathOf, recursion, type Path } from "./subgraph";
import { validate, type Problem } from "./validate";

export function checkAll(doc: Doc, catalog: Catalog): Problem[] {
  const circle = recursion(doc);
  if (circle !== undefined) {
    return [{ code: "recursion", message: `The subgraph ${circle} contains itself.`, remedy: "Take that instance out of it." }];
  }
  const found: Problem[] = [];
  const seen = new Set<string>();
  const open: Path[] = [[]];
  for (let path = open.shift(); path; path = open.shift()) {
    const here = view(doc, path);
    for (const problem of validate(here, catalog)) found.push(problem.node === undefined ? problem : { ...problem, node: pathOf(path, problem.node) });
    for (const [id, node] of Object.entries(here.nodes)) {
      const name = definitionOf(node);
      if (name === undefined || seen.has(name) || !doc.subgraphs?.[name] || node.mode === "muted") continue;
      seen.add(name);
      open.push([...path, id]);
    }
  }
  return found;
}
