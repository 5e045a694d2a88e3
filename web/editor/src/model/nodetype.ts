/** NodeTypes: what can be put on the canvas, as the server tells, and what fits to what. */

import type { NodeType as ApiNodeType } from "../api/schema";
import type { DocNode } from "./document";
import type { Json } from "./json";

export interface Kind {
  color: string;
  description: string;
  literal: boolean;
  /** a kind of models, which travel as what they are and never as weights */
  model?: boolean;
  accepts: string[];
}
export interface Widget {
  type?: string;
  min?: number;
  max?: number;
  step?: number;
  options?: string[];
  /** what options are called in the language of the person, where that is not what they are */
  said?: Readonly<Record<string, string>>;
  multiline?: boolean;
  upload?: string;
  control?: string;
  label?: string;
  placeholder?: string;
}
export interface Input {
  name: string;
  kind: string;
  required: boolean;
  default?: Json;
  widget?: Widget;
  as_list?: boolean;
  lazy?: boolean;
  match?: string;
  /** a socket only, whatever its kind */
  bare?: boolean;
  /** what it is called in the language of the person, where that is not its name */
  label?: string;
}
export interface Output {
  name: string;
  kind: string;
  as_list?: boolean;
  match?: string;
  label?: string;
}
export interface NodeType extends Pick<ApiNodeType, "id" | "version" | "category" | "title" | "description" | "effect" | "output" | "lane"> {
  inputs: Input[];
  more: Input | null;
  outputs: Output[];
  /** its title and its category in the language of the person stand in `title` and here; its own title in `also` */
  also?: string;
  group?: string;
  /** a placeholder for a type that this server does not have */
  missing?: boolean;
  /** the subgraph of the document that its nodes are instances of */
  subgraph?: string;
  /** the workflow of the library that it is published in: adding one brings its definition along */
  library?: string;
  /** the border of a subgraph, seen from inside */
  border?: "inputs" | "outputs";
}

const GREY = "#8a8a8a";

export class Catalog {
  readonly types: ReadonlyMap<string, NodeType>;
  private readonly accepted = new Map<string, Set<string>>();
  private readonly placeholders = new WeakMap<DocNode, NodeType>();

  constructor(
    types: readonly NodeType[],
    readonly kinds: Readonly<Record<string, Kind>>,
    readonly failures: Readonly<Record<string, string>> = {},
    /** the same without what a document defines, and the borders of what it defines */
    readonly base: Catalog | null = null,
    private readonly borders: ReadonlyMap<string, NodeType> = new Map(),
  ) {
    this.types = new Map(types.map((type) => [type.id, plain(type)]));
    for (const [name, kind] of Object.entries(kinds)) this.accepted.set(name, new Set(kind.accepts));
  }

  /** The node's type; a placeholder made from what the node has where the server does not know it. */
  of(node: DocNode): NodeType {
    const known = this.types.get(node.type) ?? this.borders.get(node.type);
    if (known) return known;
    let made = this.placeholders.get(node);
    if (!made) this.placeholders.set(node, (made = placeholder(node)));
    return made;
  }

  accepts(input: string, output: string): boolean {
    if (input === output || input === "*" || output === "*") return true;
    return this.accepted.get(input)?.has(output) ?? false;
  }

  literal(kind: string): boolean {
    return this.kinds[kind]?.literal ?? false;
  }

  /** The kind's colour; kinds of models, which share one, are told apart by a hue of their own. */
  color(kind: string): string {
    const { color = GREY, model = false } = this.kinds[kind] ?? {};
    if (!model) return color;
    let hash = 0;
    for (const letter of kind) hash = (hash * 31 + letter.charCodeAt(0)) % 360;
    return `hsl(${225 + (hash % 120)} 48% 74%)`;
  }
}

/** Bounds as plain numbers: those of a seed of 64 bits come as bigints, with which nothing can be calculated. */
function plain(type: NodeType): NodeType {
  const fix = (input: Input): Input => {
    const { min, max, step } = input.widget ?? {};
    if (![min, max, step].some((bound) => typeof bound === "bigint")) return input;
    const number = (bound: unknown): number | undefined => (bound === undefined ? undefined : Number(bound));
    return { ...input, widget: { ...input.widget, min: number(min), max: number(max), step: number(step) } };
  };
  const inputs = type.inputs.map(fix);
  const more = type.more && fix(type.more);
  return more === type.more && inputs.every((input, index) => input === type.inputs[index]) ? type : { ...type, inputs, more };
}

/** What people read beside a port. */
export function labelOf(port: Input | Output): string {
  return port.label ?? (("widget" in port && port.widget?.label) || port.name).replace(/_/g, " ");
}

/** The same of a type's input by its name, or of an output; the name itself where there is none. */
export function labelIn(type: NodeType, name: string): string {
  return labelOf(inputOf(type, name) ?? outputOf(type, name) ?? { name, kind: "*" });
}

/** The input by that name: declared, or one more of a node that takes any number. */
export function inputOf(type: NodeType, name: string): Input | undefined {
  return type.inputs.find((input) => input.name === name) ?? (type.more ? { ...type.more, name } : undefined);
}

export function outputOf(type: NodeType, name: string): Output | undefined {
  return type.outputs.find((output) => output.name === name);
}

/** All inputs that this node has, further ones included, in their order. */
export function inputsOf(type: NodeType, node: DocNode): Input[] {
  if (!type.more) return type.inputs;
  const known = new Set(type.inputs.map((input) => input.name));
  const names = new Set([...Object.keys(node.links ?? {}), ...Object.keys(node.values ?? {})].filter((name) => !known.has(name)));
  return [...type.inputs, ...[...names].sort(naturally).map((name) => ({ ...type.more!, name }))];
}

export function naturally(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true });
}

/** The name of the next further input. */
export function nextMore(type: NodeType, node: DocNode): string {
  const base = type.more?.name ?? "more";
  for (let count = 1; ; count++) {
    const name = `${base}_${count}`;
    if (!(name in (node.links ?? {})) && !(name in (node.values ?? {}))) return name;
  }
}

/** Is this input shown as a field? Only kinds that can be written into a document are. */
export function hasField(catalog: Catalog, input: Input): boolean {
  if (input.kind === "*" || input.bare) return false;
  return catalog.literal(input.kind) && (input.kind !== "JSON" || input.default !== undefined || input.required);
}

export function valueOf(node: DocNode, input: Input): Json | undefined {
  return node.values?.[input.name] ?? input.default ?? (input.required ? blank(input) : undefined);
}

function blank(input: Input): Json | undefined {
  switch (input.kind) {
    case "STRING":
      return "";
    case "INT":
    case "FLOAT":
      return Math.max(input.widget?.min ?? 0, Math.min(input.widget?.max ?? 0, 0));
    case "BOOLEAN":
      return false;
    case "COMBO":
      return input.widget?.options?.[0];
    default:
      return undefined;
  }
}

function placeholder(node: DocNode): NodeType {
  const names = [...Object.keys(node.links ?? {}), ...Object.keys(node.values ?? {}).filter((name) => !(name in (node.links ?? {})))];
  return {
    id: node.type,
    version: "",
    category: "",
    title: node.type,
    description: "",
    inputs: names.map((name) => ({ name, kind: "*", required: false })),
    more: null,
    outputs: [],
    effect: "pure",
    output: false,
    lane: "",
    missing: true,
  };
}
