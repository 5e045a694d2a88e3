/** Subgraphs: which there are in a workflow, which are in which, and where one stands when it has entered some. */

import type { Doc, DocNode, Subgraph } from "./document";

export const TYPE = "subgraph:";
/** The borders, drawn as nodes while one is inside. "@" is also what links to an exposed input begin with. */
export const INPUTS = "@";
export const OUTPUTS = "@out";
/** Ids of the instances that were entered, the outermost first. */
export type Path = readonly string[];

export function isBorder(id: string): boolean {
  return id === INPUTS || id === OUTPUTS;
}

/** The name of the subgraph that this node is an instance of. */
export function definitionOf(node: DocNode | undefined): string | undefined {
  return node?.type.startsWith(TYPE) ? node.type.slice(TYPE.length) : undefined;
}

/** The subgraph that one is in after entering these, and how many of them are there at all. */
export function follow(doc: Doc, path: Path): { name: string | undefined; depth: number } {
  let nodes = doc.nodes;
  let name: string | undefined;
  for (const [depth, id] of path.entries()) {
    const next = definitionOf(nodes[id]);
    const part = next === undefined ? undefined : doc.subgraphs?.[next];
    if (!part) return { name, depth };
    name = next;
    nodes = part.nodes;
  }
  return { name, depth: path.length };
}

/** Of a node that is drawn there: "outer/inner/node", as runs and problems name it. */
export function pathOf(path: Path, id: string): string {
  return path.length ? `${path.join("/")}/${id}` : id;
}

/** The node that a path leads to. */
export function nodeAt(doc: Doc, path: string): DocNode | undefined {
  const ids = path.split("/");
  const id = ids.pop()!;
  const { name, depth } = follow(doc, ids);
  if (depth < ids.length) return undefined;
  return (name === undefined ? doc.nodes : doc.subgraphs![name]!.nodes)[id];
}

/** These subgraphs and all that are in them, those within first. */
export function reachable(doc: Pick<Doc, "subgraphs">, nodes: Record<string, DocNode>): string[] {
  const found = new Set<string>();
  const open = new Set<string>();
  const visit = (inner: Record<string, DocNode>): void => {
    for (const node of Object.values(inner)) {
      const name = definitionOf(node);
      const part = name === undefined ? undefined : doc.subgraphs?.[name];
      if (name === undefined || !part || found.has(name) || open.has(name)) continue;
      open.add(name);
      visit(part.nodes);
      open.delete(name);
      found.add(name);
    }
  };
  visit(nodes);
  return [...found];
}

/** A subgraph that contains itself; undefined if none does. */
export function recursion(doc: Doc): string | undefined {
  const names = Object.keys(doc.subgraphs ?? {});
  return names.find((name) => reachable(doc, doc.subgraphs![name]!.nodes).includes(name));
}

/** Instances anywhere: [path of what they lie in, id, node]. Of a definition that is used twice, twice. */
export function instances(doc: Doc): Map<string, { name: string; nodes: string[] }> {
  const found = new Map<string, { name: string; nodes: string[] }>();
  const visit = (nodes: Record<string, DocNode>, path: Path, holders: string[][]): void => {
    for (const [id, node] of Object.entries(nodes)) {
      const name = definitionOf(node);
      const part = name === undefined ? undefined : doc.subgraphs?.[name];
      if (name === undefined || !part) for (const holder of holders) holder.push(pathOf(path, id));
      else if (path.length < 32) {
        const entry = { name, nodes: [] };
        found.set(pathOf(path, id), entry);
        visit(part.nodes, [...path, id], [...holders, entry.nodes]);
      }
    }
  };
  if (doc.subgraphs && recursion(doc) === undefined) visit(doc.nodes, [], []);
  return found;
}

/** Every place that has nodes, changed by one function: the workflow, and each subgraph of it. */
export function everywhere(doc: Doc, change: (nodes: Record<string, DocNode>, name: string | undefined) => Record<string, DocNode>): Doc {
  const subgraphs = Object.entries(doc.subgraphs ?? {}).map(([name, part]) => {
    const nodes = change(part.nodes, name);
    return [name, nodes === part.nodes ? part : { ...part, nodes }] as const;
  });
  return { ...doc, nodes: change(doc.nodes, undefined), ...(doc.subgraphs ? { subgraphs: Object.fromEntries(subgraphs) } : {}) };
}

export function setSubgraph(doc: Doc, name: string, change: (part: Subgraph) => Subgraph): Doc {
  const part = doc.subgraphs?.[name];
  if (!part) return doc;
  const next = change(part);
  return next === part ? doc : { ...doc, subgraphs: { ...doc.subgraphs, [name]: next } };
}

/** A name that is free, as links and types write them: letters, digits, "_" and "-". */
export function freshName(word: string, taken: (name: string) => boolean): string {
  const stem = word.normalize("NFKD").replace(/[^A-Za-z0-9_-]+/g, "_").replace(/^_+|_+$/g, "").slice(0, 40).toLowerCase() || "part";
  for (let count = 1; ; count++) {
    const name = count === 1 ? stem : `${stem}_${count}`;
    if (!taken(name)) return name;
  }
}
