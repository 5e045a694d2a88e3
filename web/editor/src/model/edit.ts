/** Edits: every change of a document is a function from the one before to the next. Nothing here changes in place. */

import { freshId, links, splitLink, type Doc, type DocNode, type DocUi, type Group, type Mode, type NodeUi, type Note, type Point } from "./document";
import { same, type Json } from "./json";
import type { Catalog } from "./nodetype";
import { closesCycle, outputKind } from "./validate";

export function setNode(doc: Doc, id: string, change: (node: DocNode) => DocNode): Doc {
  const node = doc.nodes[id];
  if (!node) return doc;
  const next = change(node);
  return next === node ? doc : { ...doc, nodes: { ...doc.nodes, [id]: next } };
}

export function setNodes(doc: Doc, ids: Iterable<string>, change: (node: DocNode, id: string) => DocNode): Doc {
  const nodes = { ...doc.nodes };
  for (const id of ids) if (nodes[id]) nodes[id] = change(nodes[id], id);
  return { ...doc, nodes };
}

export function setUi(doc: Doc, id: string, ui: Partial<NodeUi>): Doc {
  return setNode(doc, id, (node) => ({ ...node, ui: { ...node.ui, ...ui } }));
}

export function setDocUi(doc: Doc, ui: Partial<DocUi>): Doc {
  return { ...doc, ui: { ...doc.ui, ...ui } };
}

export function addNode(doc: Doc, type: string, at: Point, title?: string): [Doc, string] {
  const id = freshId(doc, type);
  const node: DocNode = { type, ...(title ? { title } : {}), ui: { x: Math.round(at.x), y: Math.round(at.y) } };
  return [{ ...doc, nodes: { ...doc.nodes, [id]: node } }, id];
}

export function setValue(doc: Doc, id: string, input: string, value: Json | undefined): Doc {
  return setNode(doc, id, (node) => {
    const values = { ...node.values };
    if (value === undefined) delete values[input];
    else values[input] = value;
    return { ...node, values };
  });
}

export function connect(doc: Doc, source: string, output: string, target: string, input: string): Doc {
  if (!doc.nodes[source] || closesCycle(doc, source, target)) return doc;
  const before = doc.nodes[target]?.links?.[input];
  const cleared = before === undefined ? doc : dropReroutes(doc, [`${target}.${input}`]);
  return setNode(cleared, target, (node) => ({ ...node, links: { ...node.links, [input]: `${source}.${output}` } }));
}

export function disconnect(doc: Doc, target: string, input: string): Doc {
  const cut = setNode(doc, target, (node) => {
    if (!node.links || !(input in node.links)) return node;
    const rest = { ...node.links };
    delete rest[input];
    return { ...node, links: rest };
  });
  return dropReroutes(cut, [`${target}.${input}`]);
}

/** The link of one input goes to another, with its reroutes. */
export function relink(doc: Doc, target: string, input: string, toTarget: string, toInput: string): Doc {
  const link = doc.nodes[target]?.links?.[input];
  if (typeof link !== "string" || (target === toTarget && input === toInput)) return doc;
  const points = doc.ui?.reroutes?.[`${target}.${input}`];
  const cut = disconnect(doc, target, input);
  const next = connect(cut, ...splitLink(link), toTarget, toInput);
  if (next === cut) return doc;
  return points ? setReroute(next, `${toTarget}.${toInput}`, points) : next;
}

/** Without these nodes, notes and groups; links to what is gone go too. What asked for a removed node's input goes with it. */
export function remove(doc: Doc, ids: ReadonlySet<string>): Doc {
  const nodes: Record<string, DocNode> = {};
  const lost: string[] = [];
  for (const [id, node] of Object.entries(doc.nodes)) {
    if (ids.has(id)) continue;
    const cut = Object.entries(node.links ?? {}).filter(([, link]) => ids.has(splitLink(String(link))[0]));
    if (cut.length) {
      const rest = { ...node.links };
      for (const [input] of cut) {
        delete rest[input];
        lost.push(`${id}.${input}`);
      }
      nodes[id] = { ...node, links: rest };
    } else nodes[id] = node;
  }
  const next: Doc = { ...doc, nodes };
  if (doc.asks) next.asks = doc.asks.filter((ask) => !ids.has(ask.node));
  if (doc.targets) next.targets = doc.targets.filter((target) => !ids.has(target.split("/")[0]!));
  if (next.targets && !next.targets.length) delete next.targets;
  const gone = Object.keys(doc.ui?.reroutes ?? {}).filter((key) => ids.has(splitLink(key)[0]));
  return dropReroutes(dropUi(next, ids), [...gone, ...lost]);
}

/** Removed, and what read them is linked to what they read, where the kinds allow it. */
export function removeKeepingLinks(doc: Doc, catalog: Catalog, ids: ReadonlySet<string>): Doc {
  let next = doc;
  for (const link of links(doc)) {
    if (ids.has(link.target) || !ids.has(link.source)) continue;
    const kind = outputKind(doc, catalog, link.source, link.output);
    const above = Object.values(doc.nodes[link.source]?.links ?? {}).map((text) => splitLink(String(text)));
    const through = above.find(([source, output]) => !ids.has(source) && outputKind(doc, catalog, source, output) === kind);
    if (through) next = connect(next, through[0], through[1], link.target, link.input);
  }
  return remove(next, ids);
}

function dropUi(doc: Doc, ids: ReadonlySet<string>): Doc {
  const { groups, notes } = doc.ui ?? {};
  if (!groups?.some((group) => ids.has(group.id)) && !notes?.some((note) => ids.has(note.id))) return doc;
  return setDocUi(doc, { groups: groups?.filter((group) => !ids.has(group.id)), notes: notes?.filter((note) => !ids.has(note.id)) });
}

function dropReroutes(doc: Doc, keys: readonly string[]): Doc {
  const known = doc.ui?.reroutes;
  if (!known || !keys.some((key) => key in known)) return doc;
  const reroutes = { ...known };
  for (const key of keys) delete reroutes[key];
  return setDocUi(doc, { reroutes });
}

/** Where things lie now: nodes, groups and notes alike. What is pinned stays, whoever moves it. */
export function move(doc: Doc, wanted: ReadonlyMap<string, Point>): Doc {
  const places = new Map([...wanted].filter(([id]) => !doc.nodes[id]?.ui?.pinned));
  const at = (id: string): Point => ({ x: Math.round(places.get(id)!.x), y: Math.round(places.get(id)!.y) });
  const parts = [...(doc.ui?.groups ?? []), ...(doc.ui?.notes ?? [])];
  const where = (id: string): Partial<Point> | undefined => doc.nodes[id]?.ui ?? parts.find((part) => part.id === id);
  if ([...places.keys()].every((id) => where(id)?.x === at(id).x && where(id)?.y === at(id).y)) return doc;
  const next = setNodes(doc, [...places.keys()].filter((id) => id in doc.nodes), (node, id) => ({ ...node, ui: { ...node.ui, ...at(id) } }));
  const { groups, notes } = doc.ui ?? {};
  if (![...(groups ?? []), ...(notes ?? [])].some((part) => places.has(part.id))) return next;
  const put = <T extends Group | Note>(part: T): T => (places.has(part.id) ? { ...part, ...at(part.id) } : part);
  return setDocUi(next, { groups: groups?.map(put), notes: notes?.map(put) });
}

/** All of them that mode; those that have it already (all) are active again. */
export function toggleMode(doc: Doc, ids: readonly string[], mode: Mode): Doc {
  const nodes = ids.filter((id) => doc.nodes[id]);
  const on = nodes.some((id) => doc.nodes[id]!.mode !== mode);
  return setNodes(doc, nodes, (node) => {
    const next = { ...node, mode };
    if (!on) delete (next as DocNode).mode;
    return next;
  });
}

export function toggleFlag(doc: Doc, ids: readonly string[], flag: "collapsed" | "pinned" | "breakpoint"): Doc {
  const nodes = ids.filter((id) => doc.nodes[id]);
  const on = nodes.some((id) => !doc.nodes[id]!.ui?.[flag]);
  return setNodes(doc, nodes, (node) => ({ ...node, ui: { ...node.ui, [flag]: on || undefined } }));
}

export function addGroup(doc: Doc, group: Omit<Group, "id">): [Doc, string] {
  const id = freshPart(doc, "group");
  return [setDocUi(doc, { groups: [...(doc.ui?.groups ?? []), { id, ...group }] }), id];
}

export function addNote(doc: Doc, note: Omit<Note, "id">): [Doc, string] {
  const id = freshPart(doc, "note");
  return [setDocUi(doc, { notes: [...(doc.ui?.notes ?? []), { id, ...note }] }), id];
}

export function setPart(doc: Doc, id: string, change: Partial<Group> & Partial<Note>): Doc {
  const put = <T extends { id: string }>(part: T): T => (part.id === id ? { ...part, ...change } : part);
  return setDocUi(doc, { groups: doc.ui?.groups?.map(put), notes: doc.ui?.notes?.map(put) });
}

/** Ids of groups and notes have a colon, which no node id can have. */
export function freshPart(doc: Doc, word: "group" | "note"): string {
  const taken = new Set([...(doc.ui?.groups ?? []), ...(doc.ui?.notes ?? [])].map((part) => part.id));
  for (let count = 1; ; count++) if (!taken.has(`${word}:${count}`)) return `${word}:${count}`;
}

export function setReroute(doc: Doc, key: string, points: Point[]): Doc {
  if (same(doc.ui?.reroutes?.[key] ?? [], points)) return doc;
  const reroutes = { ...doc.ui?.reroutes };
  if (points.length) reroutes[key] = points;
  else delete reroutes[key];
  return setDocUi(doc, { reroutes });
}

/** Another id for a node, everywhere it is named. */
export function rename(doc: Doc, from: string, to: string): Doc {
  if (!/^[A-Za-z0-9_-]{1,128}$/.test(to) || to in doc.nodes || !(from in doc.nodes)) return doc;
  const nodes: Record<string, DocNode> = {};
  for (const [id, node] of Object.entries(doc.nodes)) {
    const renamed = Object.entries(node.links ?? {}).map(([input, link]) => {
      const [source, output] = splitLink(String(link));
      return [input, source === from ? `${to}.${output}` : link];
    });
    nodes[id === from ? to : id] = node.links ? { ...node, links: Object.fromEntries(renamed) as Record<string, string> } : node;
  }
  const next: Doc = { ...doc, nodes };
  if (doc.asks) next.asks = doc.asks.map((ask) => (ask.node === from ? { ...ask, node: to } : ask));
  if (doc.targets) next.targets = doc.targets.map((target) => (target === from ? to : target));
  return next;
}

export function insertConverter(doc: Doc, target: string, input: string, with_: { type: string; input: string; output: string }, at: Point): Doc {
  const link = doc.nodes[target]?.links?.[input];
  if (typeof link !== "string") return doc;
  const [source, output] = splitLink(link);
  const [added, id] = addNode(doc, with_.type, at);
  return connect(connect(added, source, output, id, with_.input), id, with_.output, target, input);
}

/** Their outputs of that run hold from now on; of nodes that are held already, no longer. */
export function toggleKept(doc: Doc, ids: readonly string[], run: string): Doc {
  const on = ids.some((id) => doc.nodes[id] && !doc.nodes[id].ui?.kept);
  return setNodes(doc, ids, (node) => ({ ...node, ui: { ...node.ui, kept: on ? run : undefined } }));
}
