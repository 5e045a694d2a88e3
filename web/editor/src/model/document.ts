/**
 * Doc: a workflow as the server keeps it. What the editor alone needs stands under `ui`, of the document and of a node,
 * which the server keeps and does not read. Fields that nobody here knows stay where they are.
 */

import { isObject, parseJson, type Json } from "./json";
import { mend } from "./mend";

export type Mode = "active" | "muted" | "bypassed";

export interface NodeUi {
  x?: number;
  y?: number;
  width?: number;
  height?: number;
  collapsed?: boolean;
  pinned?: boolean;
  color?: string;
  /** runs pause before it */
  breakpoint?: boolean;
  /** the run whose outputs of this node hold, so that nothing before it is computed again */
  kept?: string;
  /** input -> what happens to its seed after a run was started */
  control?: Record<string, SeedControl>;
  [more: string]: unknown;
}
export type SeedControl = "fixed" | "increment" | "decrement" | "randomize";

export interface DocNode {
  type: string;
  title?: string;
  mode?: Mode;
  values?: Record<string, Json>;
  /** input -> "node.output" */
  links?: Record<string, string>;
  ui?: NodeUi;
  [more: string]: unknown;
}

export interface Frame {
  x: number;
  y: number;
  width: number;
  height: number;
}
export interface Group extends Frame {
  id: string;
  title: string;
  color: string;
}
export interface Note extends Frame {
  id: string;
  text: string;
  color: string;
}
export interface Point {
  x: number;
  y: number;
}

export interface DocUi {
  groups?: Group[];
  notes?: Note[];
  /** "node.input" -> the points that its link passes through */
  reroutes?: Record<string, Point[]>;
  [more: string]: unknown;
}

export interface Ask {
  node: string;
  input: string;
  label?: string;
  description?: string;
}

/** What comes in at the border of a subgraph; with a default it is a promoted widget. Inside, "@.name" is a link to it. */
export interface ExposedInput {
  name: string;
  kind: string;
  default?: Json;
  label?: string;
  [more: string]: unknown;
}
/** What a subgraph gives; link: "node.output" within. */
export interface ExposedOutput {
  name: string;
  kind: string;
  link?: string;
  label?: string;
  [more: string]: unknown;
}
/** A part of a workflow that nodes of the type "subgraph:NAME" stand for. Under `ui` also where its borders are drawn. */
export interface Subgraph {
  title?: string;
  description?: string;
  category?: string;
  inputs?: ExposedInput[];
  outputs?: ExposedOutput[];
  nodes: Record<string, DocNode>;
  ui?: DocUi & { inputs?: NodeUi; outputs?: NodeUi };
  [more: string]: unknown;
}

export interface Doc {
  format: "anyloom";
  version: number;
  title?: string;
  description?: string;
  nodes: Record<string, DocNode>;
  asks?: Ask[];
  targets?: string[];
  subgraphs?: Record<string, Subgraph>;
  /** the subgraph that others may take out of it */
  publishes?: string;
  ui?: DocUi;
  [more: string]: unknown;
}

/** Known here; 2 has subgraphs. A document says the lowest that has what it needs, so that older Anylooms read it too. */
export const VERSION = 2;
export const MAX_BYTES = 16 << 20;
export const MAX_NODES = 20_000;

export function emptyDoc(title = ""): Doc {
  return { format: "anyloom", version: 1, title, nodes: {} };
}

export class DocumentRefused extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly remedy = "",
  ) {
    super(message);
  }
}

/** A document out of text. Raises DocumentRefused, never anything else. */
export function readDoc(text: string): Doc {
  if (text.length > MAX_BYTES) {
    throw new DocumentRefused("document_too_large", `The file has ${text.length} bytes, more than ${MAX_BYTES}.`, "Put large data into files.");
  }
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (error) {
    throw new DocumentRefused("bad_json", `This is no JSON: ${(error as Error).message}`, "Correct the text.");
  }
  return toDoc(value);
}

/** A document out of JSON: what is broken in one node does not lose the others. Raises DocumentRefused. */
export function toDoc(value: unknown): Doc {
  if (!isObject(value)) throw new DocumentRefused("not_a_workflow", "A workflow is a JSON object.");
  if (Array.isArray(value["nodes"]) || looksLikePrompt(value) || value["dialect"] === "comfyui") {
    throw new DocumentRefused("foreign_format", "This is a workflow of ComfyUI.", "Convert it first: the server says how under /status.");
  }
  if (value["format"] !== "anyloom" || !isObject(value["nodes"])) {
    throw new DocumentRefused("not_a_workflow", "This JSON is no Anyloom workflow.", 'It starts with {"format": "anyloom", "nodes": {...}}.');
  }
  if (typeof value["version"] !== "number" || value["version"] > VERSION) {
    throw new DocumentRefused("newer_version", `This workflow has version ${String(value["version"])}, newer than this editor.`, "Update Anyloom.");
  }
  checkNodes(value["nodes"]);
  const definitions = value["subgraphs"] ?? {};
  if (!isObject(definitions)) throw new DocumentRefused("bad_subgraph", '"subgraphs" is no object.');
  for (const [name, part] of Object.entries(definitions)) {
    if (!isObject(part) || !isObject(part["nodes"]) || !sound(part["inputs"]) || !sound(part["outputs"])) {
      throw new DocumentRefused("bad_subgraph", `The subgraph ${name.slice(0, 80)} is broken.`, 'Write {"nodes": {...}, "inputs": [{"name", "kind"}], ...}.');
    }
    checkNodes(part["nodes"]);
  }
  const { asks = [], targets = [] } = value;
  if (!Array.isArray(asks) || !asks.every((ask) => isObject(ask) && typeof ask["node"] === "string" && typeof ask["input"] === "string")) {
    throw new DocumentRefused("bad_asks", '"asks" is no list of inputs.', 'Write [{"node", "input"}, ...].');
  }
  if (!Array.isArray(targets) || !targets.every((target) => typeof target === "string")) throw new DocumentRefused("bad_targets", '"targets" is no list of nodes.', 'Write ["node", ...].');
  return arrangeAll(mend(value as unknown as Doc));
}

/** A list of ports that have a name and a kind. */
function sound(ports: unknown): boolean {
  return ports === undefined || (Array.isArray(ports) && ports.every((port) => isObject(port) && typeof port["name"] === "string" && typeof port["kind"] === "string" && typeof (port["link"] ?? "") === "string"));
}

function checkNodes(nodes: Record<string, unknown>): void {
  const entries = Object.entries(nodes);
  if (entries.length > MAX_NODES) {
    throw new DocumentRefused("too_many_nodes", `${entries.length} nodes are more than ${MAX_NODES}.`, "Split the workflow.");
  }
  for (const [id, node] of entries) {
    if (!isObject(node) || typeof node["type"] !== "string") {
      throw new DocumentRefused("bad_node", `Node ${id.slice(0, 80)} has no type.`, 'Write {"type": "pack.name"}.');
    }
    for (const part of ["values", "links", "ui"]) {
      if (node[part] !== undefined && !isObject(node[part])) {
        throw new DocumentRefused("bad_node", `"${part}" of node ${id.slice(0, 80)} is no object.`);
      }
    }
    const broken = Object.entries((node["links"] as Record<string, unknown> | undefined) ?? {}).find(([, link]) => typeof link !== "string");
    if (broken) throw new DocumentRefused("bad_link", `The link to ${broken[0].slice(0, 80)} of node ${id.slice(0, 80)} is no text.`, 'Write "node.output".');
  }
}

function looksLikePrompt(value: Record<string, unknown>): boolean {
  const parts = Object.values(value);
  return parts.length > 0 && parts.every((part) => isObject(part) && typeof part["class_type"] === "string");
}

function arrangeAll(doc: Doc): Doc {
  const parts = Object.entries(doc.subgraphs ?? {}).map(([name, part]) => [name, arrange(part)] as const);
  const moved = parts.some(([name, part]) => part !== doc.subgraphs![name]);
  return arrange(moved ? { ...doc, subgraphs: Object.fromEntries(parts) } : doc);
}

/** Nodes without a place get one, in columns, so that nothing lies on top of another. */
function arrange<T extends { nodes: Record<string, DocNode> }>(doc: T): T {
  const lost = Object.entries(doc.nodes).filter(([, node]) => !Number.isFinite(node.ui?.x) || !Number.isFinite(node.ui?.y));
  if (!lost.length) return doc;
  const nodes = { ...doc.nodes };
  lost.forEach(([id, node], index) => {
    nodes[id] = { ...node, ui: { ...node.ui, x: Math.floor(index / 6) * 320, y: (index % 6) * 280 } };
  });
  return { ...doc, nodes };
}

export interface Link {
  source: string;
  output: string;
  target: string;
  input: string;
}

export function splitLink(text: string): [string, string] {
  const dot = text.indexOf(".");
  return dot < 0 ? [text, ""] : [text.slice(0, dot), text.slice(dot + 1)];
}

export function links(doc: Doc): Link[] {
  const found: Link[] = [];
  for (const [target, node] of Object.entries(doc.nodes)) {
    for (const [input, text] of Object.entries(node.links ?? {})) {
      if (typeof text !== "string") continue;
      const [source, output] = splitLink(text);
      found.push({ source, output, target, input });
    }
  }
  return found;
}

/** A node id that is free: the type's last word, with a number when it is taken. Who asks for many hands over where it was. */
export function freshId(doc: Doc, type: string, taken: ReadonlySet<string> = new Set(), counted = new Map<string, number>()): string {
  const word = (type.split(/[.:/]/).pop() ?? "node").replace(/[^A-Za-z0-9_-]/g, "_").slice(0, 40) || "node";
  for (let count = counted.get(word) ?? 1; ; count++) {
    const id = count === 1 ? word : `${word}_${count}`;
    if (id in doc.nodes || taken.has(id)) continue;
    counted.set(word, count);
    return id;
  }
}
