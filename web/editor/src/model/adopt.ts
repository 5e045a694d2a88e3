/** Adopt: subgraphs that come from another workflow: with a copy, or out of the library. */

import { freshId, type Doc, type DocNode, type Point, type Subgraph } from "./document";
import { same, without } from "./json";
import { definitionOf, freshName, reachable, TYPE } from "./subgraph";

/** The document with these definitions, and what each is called in it: those that are there already are not added again. */
export function adopt(doc: Doc, definitions: Record<string, Subgraph>): [Doc, ReadonlyMap<string, string>] {
  const names = new Map<string, string>();
  const subgraphs = { ...doc.subgraphs };
  const order = reachable({ subgraphs: definitions }, Object.fromEntries(Object.keys(definitions).map((name) => [name, { type: TYPE + name }])));
  for (const name of order) {
    const part = { ...definitions[name]!, nodes: retarget(definitions[name]!.nodes, names) };
    const alike = subgraphs[name] && same(bare(subgraphs[name]), bare(part));
    const called = alike ? name : freshName(name, (word) => word in subgraphs);
    names.set(name, called);
    if (!alike) subgraphs[called] = part;
  }
  if (!order.length) return [doc, names];
  return [{ ...doc, version: Math.max(2, doc.version), subgraphs }, names];
}

/** What it does, without where things are drawn. */
function bare(part: Subgraph): Subgraph {
  return { ...without(part, "ui"), nodes: Object.fromEntries(Object.entries(part.nodes).map(([id, node]) => [id, without(node, "ui")])) };
}

export function retarget(nodes: Record<string, DocNode>, names: ReadonlyMap<string, string>): Record<string, DocNode> {
  return Object.fromEntries(Object.entries(nodes).map(([id, node]) => {
    const called = names.get(definitionOf(node) ?? "");
    return [id, called === undefined ? node : { ...node, type: TYPE + called }];
  }));
}

/** The definitions that these nodes are instances of, and what is in them. */
export function definitionsOf(doc: Doc, nodes: Record<string, DocNode>): Record<string, Subgraph> {
  return Object.fromEntries(reachable(doc, nodes).map((name) => [name, doc.subgraphs![name]!]));
}

/** A workflow that consists of one instance: what the library keeps of a subgraph. */
export function publication(doc: Doc, name: string): Doc {
  const part = doc.subgraphs![name]!;
  const nodes = { [name]: { type: TYPE + name, ui: { x: 0, y: 0 } } };
  return { format: "anyloom", version: 2, title: part.title || name, description: part.description ?? "", publishes: name, subgraphs: definitionsOf(doc, nodes), nodes };
}

/** The document with an instance of what another one publishes. */
export function addPublished(doc: Doc, other: Doc, at: Point): [Doc, string] {
  const name = other.publishes;
  if (name === undefined || !other.subgraphs?.[name]) return [doc, ""];
  const wanted = Object.fromEntries([...reachable(other, { one: { type: TYPE + name } })].map((inner) => [inner, other.subgraphs![inner]!]));
  const [next, names] = adopt(doc, wanted);
  const type = TYPE + names.get(name)!;
  const id = freshId(next, type);
  return [{ ...next, nodes: { ...next.nodes, [id]: { type, ui: { x: Math.round(at.x), y: Math.round(at.y) } } } }, id];
}
