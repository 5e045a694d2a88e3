/** Defined: the node types that a workflow defines itself, and those that the library publishes. */

import type { Doc, ExposedInput, Subgraph } from "./document";
import { same, type Json } from "./json";
import { Catalog, inputOf, type Input, type NodeType } from "./nodetype";
import { definitionOf, INPUTS, TYPE } from "./subgraph";

/** A workflow of the library, as far as it publishes a subgraph. */
export interface Published {
  name: string;
  publishes?: { title?: string; description?: string; category?: string; inputs: { name: string; kind: string; default?: unknown }[]; outputs: { name: string; kind: string }[] };
}
/** What the borders and things without a category are called. */
export interface Titles {
  inputs: string;
  outputs: string;
  category: string;
  library: string;
}

const PLAIN = { version: "", effect: "pure", output: false, lane: "" } as const;

/** Makes catalogs, and keeps what did not change, so that nodes are not drawn again for nothing. */
export class Definitions {
  private kept = new Map<string, NodeType>();
  private last: Catalog | null = null;
  private asked: unknown[] = [];

  /** The catalog for that document; the one before where it would be the same. */
  catalogFor(base: Catalog, doc: Pick<Doc, "subgraphs">, library: readonly Published[], titles: Titles): Catalog {
    const asked = [base, doc.subgraphs, library, ...Object.values(titles)];
    if (this.last && asked.every((one, index) => one === this.asked[index])) return this.last;
    this.asked = asked;
    const next = new Map<string, NodeType>();
    const keep = (type: NodeType): NodeType => {
      const before = this.kept.get(type.id);
      const found = before && same(before, type) ? before : type;
      next.set(type.id, found);
      return found;
    };
    const open = new Set<string>();
    const made = new Map<string, NodeType>();
    const typeOf = (name: string): NodeType | undefined => {
      const part = doc.subgraphs?.[name];
      if (!part || open.has(name)) return undefined;
      let type = made.get(name);
      if (!type) {
        open.add(name);
        type = keep(instanceType(name, part, (node) => { const inner = definitionOf(node); return inner === undefined ? base.of(node) : typeOf(inner); }, titles));
        open.delete(name);
        made.set(name, type);
      }
      return type;
    };
    const types = Object.keys(doc.subgraphs ?? {}).flatMap((name) => typeOf(name) ?? []);
    const borders = Object.entries(doc.subgraphs ?? {}).flatMap(([name, part]) => borderTypes(name, part, titles).map(keep));
    const published = library.flatMap((one) => (one.publishes ? [keep(publishedType(one.name, one.publishes, titles))] : []));
    const fresh = next.size !== this.kept.size || [...next].some(([id, type]) => this.kept.get(id) !== type);
    this.kept = next;
    if (fresh || this.last?.base !== base) {
      this.last = new Catalog([...base.types.values(), ...types, ...published], base.kinds, base.failures, base, new Map(borders.map((type) => [type.id, type])));
    }
    return this.last;
  }
}

type TypeOf = (node: Subgraph["nodes"][string]) => NodeType | undefined;

function instanceType(name: string, part: Subgraph, typeOf: TypeOf, titles: Titles): NodeType {
  const inner = Object.values(part.nodes).flatMap((node) => typeOf(node) ?? []);
  return {
    ...PLAIN, id: TYPE + name, subgraph: name, title: part.title || name, category: part.category || titles.category, description: part.description ?? "",
    inputs: (part.inputs ?? []).map((port) => inputType(port, part, typeOf)),
    more: null,
    outputs: (part.outputs ?? []).map(({ name, kind }) => ({ name, kind })),
    effect: inner.some((type) => type.effect === "seeded") ? "seeded" : inner.some((type) => type.effect === "external") ? "external" : "pure",
    output: inner.some((type) => type.output),
  };
}

/** As the inputs within that it goes to have it: their field, their bounds, their default. */
function inputType(port: ExposedInput, part: Subgraph, typeOf: TypeOf): Input {
  const readers: Input[] = [];
  for (const node of Object.values(part.nodes)) {
    for (const [name, link] of Object.entries(node.links ?? {})) {
      const type = link === `${INPUTS}.${port.name}` ? typeOf(node) : undefined;
      const input = type && inputOf(type, name);
      if (input) readers.push(input);
    }
  }
  const like = readers.find((input) => input.kind === port.kind) ?? readers[0];
  const given = "default" in port;
  return {
    name: port.name, kind: port.kind, required: !given && readers.some((input) => input.required),
    ...(given ? { default: port.default } : like?.default !== undefined ? { default: like.default } : {}),
    ...(like?.widget || port.label ? { widget: { ...like?.widget, label: port.label ?? port.name } } : {}),
    ...(like?.as_list ? { as_list: true } : {}),
  };
}

function borderTypes(name: string, part: Subgraph, titles: Titles): NodeType[] {
  const inputs = (part.inputs ?? []).map(({ name, kind }) => ({ name, kind }));
  const outputs = (part.outputs ?? []).map(({ name, kind }) => ({ name, kind, required: false, bare: true }));
  return [
    { ...PLAIN, id: `border-inputs:${name}`, border: "inputs", title: titles.inputs, category: "", description: "", inputs: [], more: null, outputs: [...inputs, { name: "+", kind: "*" }] },
    { ...PLAIN, id: `border-outputs:${name}`, border: "outputs", title: titles.outputs, category: "", description: "", inputs: outputs, more: { name: "output", kind: "*", required: false, bare: true }, outputs: [] },
  ];
}

function publishedType(workflow: string, published: NonNullable<Published["publishes"]>, titles: Titles): NodeType {
  return {
    ...PLAIN, id: `library:${workflow}`, library: workflow, title: published.title || workflow, category: published.category || titles.library, description: published.description ?? "",
    inputs: published.inputs.map((port) => ({ name: port.name, kind: port.kind, required: !("default" in port), ...("default" in port ? { default: port.default as Json } : {}) })),
    more: null,
    outputs: published.outputs,
  };
}
