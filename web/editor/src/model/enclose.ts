/** Enclose: nodes become a subgraph, whose border is where their links cross it; and an instance becomes its nodes again. */

import { links, splitLink, type Ask, type Doc, type DocNode, type ExposedInput, type ExposedOutput, type Point, type Subgraph } from "./document";
import { setDocUi } from "./edit";
import { without, type Json } from "./json";
import { inputOf, valueOf, type Catalog } from "./nodetype";
import { freePort } from "./scope";
import { bounds, frameOf } from "./shape";
import { definitionOf, everywhere, freshName, INPUTS, isBorder, TYPE } from "./subgraph";
import { outputKind } from "./validate";

/** A node outside that reads them and is read by them: with it left out, the subgraph would wait for itself. */
export function between(doc: Doc, ids: ReadonlySet<string>): string | undefined {
  const all = links(doc);
  const reach = (from: "source" | "target", to: "source" | "target"): Set<string> => {
    const next = new Map<string, string[]>();
    for (const link of all) next.set(link[from], [...(next.get(link[from]) ?? []), link[to]]);
    const found = new Set<string>();
    const open = [...ids];
    while (open.length) {
      for (const id of next.get(open.pop()!) ?? []) {
        if (found.has(id)) continue;
        found.add(id);
        if (!ids.has(id)) open.push(id);
      }
    }
    return found;
  };
  const below = reach("source", "target");
  const above = reach("target", "source");
  return [...below].find((id) => !ids.has(id) && above.has(id) && !isBorder(id));
}

/** The document with these nodes in a subgraph of their own, and the id of its instance; the same document if there are none. */
export function enclose(doc: Doc, catalog: Catalog, chosen: ReadonlySet<string>, title: string): [Doc, string] {
  const ids = new Set([...chosen].filter((id) => doc.nodes[id] && !isBorder(id)));
  if (!ids.size || between(doc, ids)) return [doc, ""];
  const name = freshName(title, (word) => word in (doc.subgraphs ?? {}) || word in doc.nodes);
  const inputs: ExposedInput[] = [];
  const outputs: ExposedOutput[] = [];
  /** link from outside -> exposed input; link to inside -> exposed output */
  const crossing = new Map<string, string>();
  const leaving = new Map<string, string>();
  const inner: Record<string, DocNode> = {};
  const outer: Record<string, DocNode> = {};
  const expose = (id: string, node: DocNode, port: string, more: Partial<ExposedInput> = {}): string => {
    const exposed = freePort(port, inputs);
    inputs.push({ name: exposed, kind: inputOf(catalog.of(node), port)?.kind ?? "*", ...more });
    inner[id] = { ...inner[id]!, links: { ...inner[id]!.links, [port]: `${INPUTS}.${exposed}` } };
    return exposed;
  };
  const asks = new Map<Ask, Ask>();
  for (const [id, node] of Object.entries(doc.nodes)) {
    if (!ids.has(id)) continue;
    inner[id] = elsewhere(node);
    for (const [port, link] of Object.entries(node.links ?? {})) {
      const [source, output] = splitLink(link);
      if (ids.has(source)) continue;
      const known = crossing.get(link);
      if (known) inner[id] = { ...inner[id]!, links: { ...inner[id]!.links, [port]: `${INPUTS}.${known}` } };
      else {
        const kind = outputKind(doc, catalog, source, output);
        crossing.set(link, expose(id, node, port, kind === "*" ? {} : { kind: narrow(catalog, node, port, kind) }));
      }
    }
    for (const ask of doc.asks?.filter((one) => one.node === id) ?? []) {
      if (node.links?.[ask.input] !== undefined) continue; // what is linked is asked for where it comes from
      const input = inputOf(catalog.of(node), ask.input);
      const value = input && valueOf(node, input);
      const exposed = expose(id, node, ask.input, { ...(value === undefined ? {} : { default: value }), ...(ask.label ? { label: ask.label } : {}) });
      inner[id] = withoutValue(inner[id]!, ask.input);
      asks.set(ask, { ...ask, node: name, input: exposed });
    }
  }
  for (const [id, node] of Object.entries(doc.nodes)) {
    if (ids.has(id)) continue;
    const crossed = Object.entries(node.links ?? {}).filter(([, link]) => ids.has(splitLink(link)[0]));
    outer[id] = !crossed.length ? node : { ...node, links: { ...node.links, ...Object.fromEntries(crossed.map(([port, link]) => [port, `${name}.${leave(link)}`])) } };
  }
  function leave(link: string): string {
    const known = leaving.get(link);
    if (known) return known;
    const [source, output] = splitLink(link);
    const exposed = freePort(output, outputs);
    outputs.push({ name: exposed, kind: outputKind(doc, catalog, source, output), link });
    leaving.set(link, exposed);
    return exposed;
  }
  const box = bounds([...ids].map((id) => frameOf(catalog, doc.nodes[id]!)));
  const instance: DocNode = {
    type: TYPE + name,
    links: Object.fromEntries([...crossing].map(([link, exposed]) => [exposed, link])),
    ui: { x: Math.round(box.x + box.width / 2 - 132), y: Math.round(box.y + box.height / 2 - 60) },
  };
  const part: Subgraph = { title, inputs, outputs, nodes: inner, ui: {} };
  const [ui, innerUi] = divide(doc, ids, chosen);
  part.ui = innerUi;
  const next: Doc = { ...doc, version: Math.max(2, doc.version), nodes: { ...outer, [name]: instance }, ui, subgraphs: { ...doc.subgraphs, [name]: part } };
  if (doc.asks) next.asks = doc.asks.flatMap((ask) => asks.get(ask) ?? (ids.has(ask.node) ? [] : [ask]));
  if (doc.targets) next.targets = [...new Set(doc.targets.map((target) => (ids.has(target.split("/")[0]!) ? `${name}/${target}` : target)))];
  return [next, name];
}

/** The kind of what comes in, where the input would take others as well; else that of the input. */
function narrow(catalog: Catalog, node: DocNode, port: string, kind: string): string {
  const wanted = inputOf(catalog.of(node), port)?.kind ?? "*";
  return wanted === "*" ? kind : wanted;
}

/** In another place a node has another path: outputs of an earlier run are not its own any more. */
function elsewhere(node: DocNode): DocNode {
  return node.ui?.kept === undefined ? node : { ...node, ui: without(node.ui, "kept") };
}

function withoutValue(node: DocNode, port: string): DocNode {
  return node.values && port in node.values ? { ...node, values: without(node.values, port) } : node;
}

/** Groups, notes and reroutes: those that go along, and those that stay. */
function divide(doc: Doc, ids: ReadonlySet<string>, chosen: ReadonlySet<string>): [Doc["ui"], Subgraph["ui"]] {
  const { groups, notes, reroutes, ...rest } = doc.ui ?? {};
  const goes = (key: string): boolean => {
    const [target, input] = splitLink(key);
    const link = doc.nodes[target]?.links?.[input];
    return ids.has(target) && link !== undefined && ids.has(splitLink(link)[0]);
  };
  const points = Object.entries(reroutes ?? {});
  const pick = (inside: boolean): Subgraph["ui"] => ({
    ...(groups ? { groups: groups.filter((part) => chosen.has(part.id) === inside) } : {}),
    ...(notes ? { notes: notes.filter((part) => chosen.has(part.id) === inside) } : {}),
    ...(reroutes ? { reroutes: Object.fromEntries(points.filter(([key]) => (inside ? goes(key) : !ids.has(splitLink(key)[0])))) } : {}),
  });
  return [doc.ui ? { ...rest, ...pick(false) } : undefined, pick(true)];
}

/** The document with the nodes of that instance in its place, and their ids. */
export function unpack(doc: Doc, catalog: Catalog, id: string): [Doc, string[]] {
  const instance = doc.nodes[id];
  const name = definitionOf(instance);
  const part = name === undefined ? undefined : doc.subgraphs?.[name];
  if (!instance || name === undefined || !part) return [doc, []];
  const names = new Map<string, string>();
  const taken = new Set(Object.keys(doc.nodes).filter((one) => one !== id));
  for (const inner of Object.keys(part.nodes)) {
    let word = inner;
    for (let count = 2; taken.has(word) || [...names.values()].includes(word); count++) word = `${inner}_${count}`;
    names.set(inner, word);
  }
  /** What an exposed input gets here: a link, a value, or nothing. */
  const given = (exposed: string): { link?: string; value?: Json } => {
    const port = part.inputs?.find((one) => one.name === exposed);
    const link = instance.links?.[exposed];
    if (link !== undefined) return { link };
    const value = instance.values?.[exposed] ?? port?.default;
    return value === undefined ? {} : { value };
  };
  const shift = offset(catalog, part, instance);
  const place = <T extends { x?: number; y?: number }>(at: T | undefined): T & Point => ({ ...at!, x: Math.round((at?.x ?? 0) + shift.x), y: Math.round((at?.y ?? 0) + shift.y) });
  const nodes: Record<string, DocNode> = {};
  const put = (node: DocNode, port: string, { link, value }: { link?: string; value?: Json }): DocNode => {
    const rest = without(node.links ?? {}, port);
    if (link !== undefined) return { ...node, links: { ...rest, [port]: link } };
    return value === undefined ? { ...node, links: rest } : { ...node, links: rest, values: { ...node.values, [port]: value } };
  };
  for (const [inner, node] of Object.entries(part.nodes)) {
    let next: DocNode = { ...elsewhere(node), ui: place(elsewhere(node).ui ?? {}) };
    for (const [port, link] of Object.entries(node.links ?? {})) {
      const [source, output] = splitLink(link);
      next = put(next, port, source === INPUTS ? given(output) : { link: `${names.get(source) ?? source}.${output}` });
    }
    for (const [key, value] of Object.entries(instance.values ?? {})) {
      const [where, port] = splitLink(key);
      if (port && where === inner) next = put(next, port, { value });
      else if (port && where.startsWith(`${inner}/`)) next = { ...next, values: { ...next.values, [`${where.slice(inner.length + 1)}.${port}`]: value } };
    }
    nodes[names.get(inner)!] = next;
  }
  for (const [other, node] of Object.entries(doc.nodes)) {
    if (other === id) continue;
    let next = node;
    for (const [port, link] of Object.entries(node.links ?? {})) {
      const [source, output] = splitLink(link);
      if (source !== id) continue;
      const from = part.outputs?.find((one) => one.name === output)?.link;
      const [inner, innerOutput] = splitLink(from ?? "");
      next = put(next, port, from === undefined ? {} : inner === INPUTS ? given(innerOutput) : { link: `${names.get(inner) ?? inner}.${innerOutput}` });
    }
    nodes[other] = next;
  }
  let next: Doc = { ...doc, nodes };
  const { groups = [], notes = [], reroutes = {} } = part.ui ?? {};
  const free = (kind: "group" | "note", index: number): string => `${kind}:${id}-${index + 1}`;
  if (groups.length || notes.length || Object.keys(reroutes).length) {
    const moved = Object.entries(reroutes).map(([key, points]) => [`${names.get(splitLink(key)[0])}.${splitLink(key)[1]}`, points.map((point) => place(point))] as const);
    next = setDocUi(next, {
      groups: [...(doc.ui?.groups ?? []), ...groups.map((one, index) => ({ ...place(one), id: free("group", index) }))],
      notes: [...(doc.ui?.notes ?? []), ...notes.map((one, index) => ({ ...place(one), id: free("note", index) }))],
      reroutes: { ...doc.ui?.reroutes, ...Object.fromEntries(moved) },
    });
  }
  if (doc.asks) {
    next.asks = doc.asks.flatMap((ask) => {
      if (ask.node !== id) return [ask];
      const reader = Object.entries(part.nodes).flatMap(([inner, node]) => Object.entries(node.links ?? {}).filter(([, link]) => link === `${INPUTS}.${ask.input}`).map(([port]) => ({ ...ask, node: names.get(inner)!, input: port })));
      return reader.slice(0, 1);
    });
  }
  if (doc.targets) {
    const feeds = [...new Set((part.outputs ?? []).flatMap((port) => names.get(splitLink(port.link ?? "")[0]) ?? []))];
    next.targets = [...new Set(doc.targets.flatMap((target) => (target === id ? feeds : target.startsWith(`${id}/`) ? [names.get(target.slice(id.length + 1)) ?? target.slice(id.length + 1)] : [target])))];
    if (!next.targets.length) delete next.targets;
  }
  return [dropUnused(next, name), [...names.values()]];
}

/** The middle of what is unpacked lies where the middle of the instance was. */
function offset(catalog: Catalog, part: Subgraph, instance: DocNode): Point {
  const box = bounds(Object.values(part.nodes).map((node) => frameOf(catalog, node)));
  const frame = frameOf(catalog, instance);
  return { x: frame.x + frame.width / 2 - box.x - box.width / 2, y: frame.y + frame.height / 2 - box.y - box.height / 2 };
}

/** Without that definition, when nothing is an instance of it any more. */
export function dropUnused(doc: Doc, name: string): Doc {
  let used = false;
  everywhere(doc, (nodes) => {
    used ||= Object.values(nodes).some((node) => definitionOf(node) === name);
    return nodes;
  });
  if (used || !doc.subgraphs || doc.publishes === name) return doc;
  return { ...doc, subgraphs: without(doc.subgraphs, name) };
}

/** That instance gets a subgraph of its own, which may be changed without the others. */
export function detach(doc: Doc, id: string): Doc {
  const name = definitionOf(doc.nodes[id]);
  const part = name === undefined ? undefined : doc.subgraphs?.[name];
  if (!part || name === undefined) return doc;
  const copy = freshName(name, (word) => word in doc.subgraphs!);
  return { ...doc, nodes: { ...doc.nodes, [id]: { ...doc.nodes[id]!, type: TYPE + copy } }, subgraphs: { ...doc.subgraphs, [copy]: { ...part, title: `${part.title ?? name} 2` } } };
}

