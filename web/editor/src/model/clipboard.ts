/** Clip: nodes, notes and groups on their way to another place, another tab or another program, as JSON text. */

import { adopt, definitionsOf, retarget } from "./adopt";
import { freshId, splitLink, toDoc, type Doc, type DocNode, type Group, type Note, type Point, type Subgraph } from "./document";
import { freshPart, setDocUi } from "./edit";
import { dumpJson, isObject, parseJson } from "./json";
import { isBorder } from "./subgraph";

export interface Clip {
  format: "anyloom-clip";
  version: 1;
  nodes: Record<string, DocNode>;
  groups: Group[];
  notes: Note[];
  /** what its nodes are instances of */
  subgraphs?: Record<string, Subgraph>;
}

export function copy(doc: Doc, ids: ReadonlySet<string>): Clip {
  const nodes = Object.fromEntries(Object.entries(doc.nodes).filter(([id]) => ids.has(id) && !isBorder(id)));
  const subgraphs = definitionsOf(doc, nodes);
  return {
    format: "anyloom-clip",
    version: 1,
    nodes,
    groups: doc.ui?.groups?.filter((group) => ids.has(group.id)) ?? [],
    notes: doc.ui?.notes?.filter((note) => ids.has(note.id)) ?? [],
    ...(Object.keys(subgraphs).length ? { subgraphs } : {}),
  };
}

export function isEmpty(clip: Clip): boolean {
  return !Object.keys(clip.nodes).length && !clip.groups.length && !clip.notes.length;
}

/** The document with the clip, its top left corner at `at`, and the new ids.

Links within the clip are kept. Links from outside are kept with `outside`, where their sources are. */
export function paste(into: Doc, copied: Clip, at: Point, outside = false): [Doc, string[]] {
  const [doc, called] = adopt(into, copied.subgraphs ?? {});
  const clip = { ...copied, nodes: retarget(copied.nodes, called) };
  const parts = [...Object.values(clip.nodes).map((node) => node.ui ?? {}), ...clip.groups, ...clip.notes];
  const left = Math.min(...parts.map((part) => part.x ?? 0));
  const top = Math.min(...parts.map((part) => part.y ?? 0));
  const shift = (part: { x?: number; y?: number }): Point => ({
    x: Math.round((part.x ?? 0) - left + at.x),
    y: Math.round((part.y ?? 0) - top + at.y),
  });
  const names = new Map<string, string>();
  const taken = new Set<string>();
  for (const [id, node] of Object.entries(clip.nodes)) {
    const name = id in doc.nodes || taken.has(id) ? freshId(doc, node.type, taken) : id;
    names.set(id, name);
    taken.add(name);
  }
  const nodes = { ...doc.nodes };
  for (const [id, node] of Object.entries(clip.nodes)) {
    const links: Record<string, string> = {};
    for (const [input, link] of Object.entries(node.links ?? {})) {
      const [source, output] = splitLink(String(link));
      const inner = names.get(source);
      if (inner) links[input] = `${inner}.${output}`;
      else if (outside && source in doc.nodes) links[input] = link;
    }
    nodes[names.get(id)!] = { ...node, ...(node.links ? { links } : {}), ui: { ...node.ui, ...shift(node.ui ?? {}) } };
  }
  let next: Doc = { ...doc, nodes };
  const ids = [...names.values()];
  for (const [word, list] of [["group", clip.groups], ["note", clip.notes]] as const) {
    for (const part of list) {
      const id = freshPart(next, word);
      const key = word === "group" ? "groups" : "notes";
      next = setDocUi(next, { [key]: [...(next.ui?.[key] ?? []), { ...part, id, ...shift(part) }] });
      ids.push(id);
    }
  }
  return [next, ids];
}

export function clipText(clip: Clip): string {
  return dumpJson(clip);
}

/** The clip in a text, or undefined: the clipboard holds whatever people copy. */
export function readClip(text: string): Clip | undefined {
  if (!text.startsWith("{") || text.length > 16 << 20) return undefined;
  try {
    const value = parseJson(text);
    if (!isObject(value) || value["format"] !== "anyloom-clip" || !isObject(value["nodes"])) return undefined;
    const sound = Object.values(value["nodes"]).every((node) => isObject(node) && typeof node["type"] === "string");
    if (!isObject(value["subgraphs"] ?? {})) return undefined;
    toDoc({ format: "anyloom", version: 2, nodes: {}, subgraphs: value["subgraphs"] ?? {} }); // throws where one is broken
    return sound && Array.isArray(value["groups"]) && Array.isArray(value["notes"]) ? (value as unknown as Clip) : undefined;
  } catch {
    return undefined;
  }
}
