/** Scope: what is seen of a workflow when one is inside a subgraph, and how what is changed there comes back into it. */

import type { Doc, DocNode, ExposedInput, ExposedOutput, NodeUi, Subgraph } from "./document";
import { splitLink } from "./document";
import { without } from "./json";
import { outputOf, inputOf, type Catalog } from "./nodetype";
import { follow, INPUTS, OUTPUTS, setSubgraph, type Path } from "./subgraph";
import { outputKind } from "./validate";

const seen = new WeakMap<Doc, Map<string, Doc>>();
const borders = new WeakMap<Subgraph, Record<string, DocNode>>();

/** The workflow as it looks from there: the nodes of the subgraph, between its borders. The same object for the same workflow. */
export function view(doc: Doc, path: Path): Doc {
  if (!path.length) return doc;
  const { name, depth } = follow(doc, path);
  if (name === undefined || depth < path.length) return depth ? view(doc, path.slice(0, depth)) : doc;
  let known = seen.get(doc);
  if (!known) seen.set(doc, (known = new Map()));
  let found = known.get(name);
  if (!found) known.set(name, (found = inside(doc, name)));
  return found;
}

function inside(doc: Doc, name: string): Doc {
  const part = doc.subgraphs![name]!;
  const ui = without(part.ui ?? {}, "inputs", "outputs");
  return { format: "anyloom", version: doc.version, title: part.title ?? name, nodes: { ...bordersOf(part, name), ...part.nodes }, ui, subgraphs: doc.subgraphs };
}

/** The two borders as nodes; further to the left and to the right than everything else until somebody moves them. */
function bordersOf(part: Subgraph, name: string): Record<string, DocNode> {
  const known = borders.get(part);
  if (known) return known;
  const nodes = Object.values(part.nodes);
  const places = nodes.length ? nodes.map((node) => ({ x: node.ui?.x ?? 0, y: node.ui?.y ?? 0, width: node.ui?.width ?? 264 })) : [{ x: 0, y: 0, width: 0 }];
  const left = Math.min(...places.map((one) => one.x));
  const right = Math.max(...places.map((one) => one.x + one.width));
  const top = Math.min(...places.map((one) => one.y));
  const place = (ui: NodeUi | undefined, x: number): NodeUi => ({ x, y: top, width: 200, ...ui });
  const links = Object.fromEntries((part.outputs ?? []).flatMap((port) => (port.link ? [[port.name, port.link]] : [])));
  const made = {
    [INPUTS]: { type: `border-inputs:${name}`, ui: place(part.ui?.inputs, left - 300) },
    [OUTPUTS]: { type: `border-outputs:${name}`, links, ui: place(part.ui?.outputs, right + 100) },
  };
  borders.set(part, made);
  return made;
}

/** The whole workflow after `changed` was made of `view(doc, path)`. */
export function put(doc: Doc, path: Path, changed: Doc, catalog: Catalog): Doc {
  const { name } = follow(doc, path);
  if (name === undefined) return changed;
  const { [INPUTS]: into, [OUTPUTS]: out, ...nodes } = changed.nodes;
  const before = doc.subgraphs![name]!;
  const whole: Doc = { ...doc, version: Math.max(doc.version, changed.version), subgraphs: changed.subgraphs };
  const inputs = [...(before.inputs ?? [])];
  const linked = exposeInputs(nodes, inputs, catalog);
  const outputs = out ? outputsOf(before.outputs ?? [], out, changed, inputs, catalog) : before.outputs;
  const drawn = borders.get(before);
  return setSubgraph(whole, name, (part) => ({
    ...part, nodes: linked,
    ...(inputs.length || part.inputs ? { inputs } : {}),
    ...(outputs?.length || part.outputs ? { outputs } : {}),
    ui: {
      ...changed.ui,
      ...(into && into !== drawn?.[INPUTS] ? { inputs: into.ui } : part.ui?.inputs ? { inputs: part.ui.inputs } : {}),
      ...(out && out.ui !== drawn?.[OUTPUTS]?.ui ? { outputs: out.ui } : part.ui?.outputs ? { outputs: part.ui.outputs } : {}),
    },
  }));
}

/** Links to the empty socket of the border become a new exposed input each. */
function exposeInputs(nodes: Record<string, DocNode>, inputs: ExposedInput[], catalog: Catalog): Record<string, DocNode> {
  let next = nodes;
  for (const [id, node] of Object.entries(nodes)) {
    for (const [port, link] of Object.entries(node.links ?? {})) {
      if (link !== `${INPUTS}.+`) continue;
      const name = freePort(port, inputs);
      inputs.push({ name, kind: inputOf(catalog.of(node), port)?.kind ?? "*" });
      next = { ...next, [id]: { ...next[id]!, links: { ...next[id]!.links, [port]: `${INPUTS}.${name}` } } };
    }
  }
  return next;
}

/** The outputs as the border at the right is linked: a link to its empty socket is a new one. */
function outputsOf(before: readonly ExposedOutput[], out: DocNode, changed: Doc, inputs: ExposedInput[], catalog: Catalog): ExposedOutput[] {
  const links = { ...out.links };
  const found = before.map((port) => {
    const link = links[port.name];
    delete links[port.name];
    return link === port.link ? port : link === undefined ? without(port, "link") : { ...port, link };
  });
  for (let link of Object.values(links)) {
    const [source, output] = splitLink(link);
    const kind = source === INPUTS ? (inputs.find((port) => port.name === output)?.kind ?? "*") : outputKind(changed, catalog, source, output);
    if (link === `${INPUTS}.+`) {
      const name = freePort("value", inputs);
      inputs.push({ name, kind: "*" });
      link = `${INPUTS}.${name}`;
    }
    const known = source === INPUTS || outputOf(catalog.of(changed.nodes[source] ?? { type: "" }), output);
    if (known) found.push({ name: freePort(output === "+" ? "value" : output, found), kind, link });
  }
  return found;
}

export function freePort(wanted: string, taken: readonly { name: string }[]): string {
  const stem = wanted.replace(/[^\p{L}\p{N}_-]/gu, "_").slice(0, 100) || "port";
  for (let count = 1; ; count++) {
    const name = count === 1 ? stem : `${stem}_${count}`;
    if (!taken.some((port) => port.name === name)) return name;
  }
}
