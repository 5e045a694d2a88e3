/** Clip: nodes, notes and groups on their way to another place, another tab or another program, as JSON text. */

import { adopt, definitionsOf, retarget } from "./adopt";
import { freshId, splitLink, toDoc, type Doc, type DocNode, type Group, type Note, type Point, type Subgraph } from "./document";
import { freshPart, setDocUi } from "./edit";
import { dumpJson, isObject, parseJson, without } from "./json";
import { isBorder } from "./subgraph";

export interface Clip {
  format: "anyloom-clip";
  version: 1;
  nodes: Record<string, DocNode>;
  groups: Group[];
  notes: Note[];
  /** "node.input" -> the points that a link within passes through */
  reroutes?: Record<string, Point[]>;
  /** what its nodes are instances of */
  subgraphs?: Record<string, Subgraph>;
}

export function copy(doc: Doc, ids: ReadonlySet<string>): Clip {
  const nodes = Object.fromEntries(Object.entries(doc.nodes).filter(([id]) => ids.has(id) && !isBorder(id)).map(([id, node]) => [id, unkept(node)]));
  const subgraphs = definitionsOf(doc, nodes);
  const within = (key: string): boolean => {
    const [target, input] = splitLink(key);
    return splitLink(nodes[target]?.links?.[input] ?? "")[0] in nodes;
  };
  const reroutes = Object.entries(doc.ui?.reroutes ?? {}).filter(([key]) => within(key));
  return {
    format: "anyloom-clip",
    version: 1,
    nodes,
    groups: doc.ui?.groups?.filter((group) => ids.has(group.id)) ?? [],
    notes: doc.ui?.notes?.filter((note) => ids.has(note.id)) ?? [],
    ...(reroutes.length ? { reroutes: Object.fromEntries(reroutes) } : {}),
    ...(Object.keys(subgraphs).length ? { subgraphs } : {}),
  };
}

/** Outputs of an earlier run are those of the original: no run knows the copy. */
function unkept(node: DocNode): DocNode {
  return node.ui?.kept === undefined ? node : { ...node, ui: without(node.ui, "kept") };
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
  const counted = new Map<string, number>();
  for (const [id, node] of Object.entries(clip.nodes)) {
    const name = id in doc.nodes || taken.has(id) ? freshId(doc, node.type, taken, counted) : id;
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
  const points = Object.entries(copied.reroutes ?? {}).map(([key, list]) => {
    const [target, input] = splitLink(key);
    return [`${names.get(target)}.${input}`, list.map(shift)] as const;
  });
  if (points.length) next = setDocUi(next, { reroutes: { ...next.ui?.reroutes, ...Object.fromEntries(points) } });
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
    if (!Array.isArray(value["groups"]) || !Array.isArray(value["notes"])) return undefined;
    // throws where it is broken
    const doc = toDoc({ format: "anyloom", version: 2, nodes: value["nodes"], subgraphs: value["subgraphs"] ?? {}, ui: { groups: value["groups"], notes: value["notes"], reroutes: value["reroutes"] } });
    return { ...(value as unknown as Clip), nodes: doc.nodes, subgraphs: doc.subgraphs, groups: doc.ui?.groups ?? [], notes: doc.ui?.notes ?? [], reroutes: doc.ui?.reroutes };
  } catch {
    return undefined;
  }
}
