/** Expose: the ports of a subgraph: promote a widget of a node within, take it back, rename, take away, title. */

import { splitLink, type Doc, type DocNode, type Subgraph } from "./document";
import { without, type Json } from "./json";
import { hasField, inputOf, valueOf, type Catalog } from "./nodetype";
import { freePort } from "./scope";
import { definitionOf, everywhere, INPUTS, setSubgraph } from "./subgraph";

/** The exposed input that an input of a node within is linked to. */
export function promotedAs(node: DocNode | undefined, input: string): string | undefined {
  const [source, name] = splitLink(node?.links?.[input] ?? "");
  return source === INPUTS && name ? name : undefined;
}

/** An input of a node within becomes one of the subgraph. What has a field keeps its value, as the default of every instance. */
export function promote(doc: Doc, catalog: Catalog, name: string, id: string, port: string): Doc {
  return setSubgraph(doc, name, (part) => {
    const node = part.nodes[id];
    const input = node && inputOf(catalog.of(node), port);
    if (!node || !input || node.links?.[port] !== undefined) return part;
    const exposed = freePort(port, part.inputs ?? []);
    const value = hasField(catalog, input) ? valueOf(node, input) : undefined;
    const values = without(node.values ?? {}, port);
    return {
      ...part,
      inputs: [...(part.inputs ?? []), { name: exposed, kind: input.kind, ...(value === undefined ? {} : { default: value }) }],
      nodes: { ...part.nodes, [id]: { ...node, values, links: { ...node.links, [port]: `${INPUTS}.${exposed}` } } },
    };
  });
}

/** The input is one of the node within alone again, with the default as its value; links and values of instances go. */
export function unpromote(doc: Doc, name: string, exposed: string): Doc {
  const port = doc.subgraphs?.[name]?.inputs?.find((one) => one.name === exposed);
  if (!port) return doc;
  const link = `${INPUTS}.${exposed}`;
  const within = setSubgraph(doc, name, (part) => ({
    ...part,
    inputs: part.inputs?.filter((one) => one !== port),
    outputs: part.outputs?.map((one) => (one.link === link ? without(one, "link") : one)),
    nodes: each(part.nodes, (node) => {
      const ports = Object.keys(node.links ?? {}).filter((input) => node.links![input] === link);
      if (!ports.length) return node;
      const links = { ...node.links };
      const values: Record<string, Json> = { ...node.values };
      for (const input of ports) {
        delete links[input];
        if (port.default !== undefined) values[input] = port.default;
      }
      return { ...node, links, values };
    }),
  }));
  const asks = within.asks?.filter((ask) => !(ask.input === exposed && definitionOf(within.nodes[ask.node]) === name));
  return atInstances(asks ? { ...within, asks } : within, name, (node) => ({
    ...node, ...(node.links ? { links: without(node.links, exposed) } : {}), ...(node.values ? { values: without(node.values, exposed) } : {}),
  }));
}

/** Without that output; what read it is not linked any more. */
export function removeOutput(doc: Doc, name: string, exposed: string): Doc {
  const within = setSubgraph(doc, name, (part) => ({ ...part, outputs: part.outputs?.filter((one) => one.name !== exposed) }));
  return rewire(within, name, exposed, () => undefined);
}

/** Another name for a port, wherever it is named: inside, at every instance, and at what is linked to them. */
export function renamePort(doc: Doc, name: string, side: "inputs" | "outputs", from: string, wanted: string): Doc {
  const ports = doc.subgraphs?.[name]?.[side] ?? [];
  const port = ports.find((one) => one.name === from);
  if (!port || !wanted.trim() || wanted === from) return doc;
  const to = freePort(wanted.trim(), ports.filter((one) => one !== port));
  const renamed = setSubgraph(doc, name, (part): Subgraph => {
    if (side === "outputs") return { ...part, outputs: part.outputs!.map((one) => (one.name === from ? { ...one, name: to } : one)) };
    const link = (text: string): string => (text === `${INPUTS}.${from}` ? `${INPUTS}.${to}` : text);
    return {
      ...part,
      inputs: part.inputs!.map((one) => (one.name === from ? { ...one, name: to } : one)),
      outputs: part.outputs?.map((one) => (one.link === `${INPUTS}.${from}` ? { ...one, link: link(one.link) } : one)),
      nodes: each(part.nodes, (node) => (Object.values(node.links ?? {}).includes(`${INPUTS}.${from}`) ? { ...node, links: Object.fromEntries(Object.entries(node.links!).map(([input, text]) => [input, link(text)])) } : node)),
    };
  });
  if (side === "outputs") return rewire(renamed, name, from, () => to);
  const key = <T>(entries: Record<string, T> | undefined): Record<string, T> | undefined => entries && Object.fromEntries(Object.entries(entries).map(([one, value]) => [one === from ? to : one, value]));
  const asks = renamed.asks?.map((ask) => (ask.input === from && definitionOf(renamed.nodes[ask.node]) === name ? { ...ask, input: to } : ask));
  return atInstances(asks ? { ...renamed, asks } : renamed, name, (node) => ({ ...node, ...(node.links ? { links: key(node.links) } : {}), ...(node.values ? { values: key(node.values) } : {}) }));
}

export function movePort(doc: Doc, name: string, side: "inputs" | "outputs", port: string, by: number): Doc {
  return setSubgraph(doc, name, (part) => {
    const ports = [...(part[side] ?? [])] as { name: string; kind: string }[];
    const at = ports.findIndex((one) => one.name === port);
    const to = at + by;
    if (at < 0 || to < 0 || to >= ports.length) return part;
    ports.splice(to, 0, ...ports.splice(at, 1));
    return { ...part, [side]: ports };
  });
}

function each(nodes: Record<string, DocNode>, change: (node: DocNode) => DocNode): Record<string, DocNode> {
  let moved = false;
  const next = Object.fromEntries(Object.entries(nodes).map(([id, node]) => {
    const made = change(node);
    moved ||= made !== node;
    return [id, made];
  }));
  return moved ? next : nodes;
}

function atInstances(doc: Doc, name: string, change: (node: DocNode) => DocNode): Doc {
  return everywhere(doc, (nodes) => each(nodes, (node) => (definitionOf(node) === name ? change(node) : node)));
}

/** Links to that output of any instance, to another one or to none. */
function rewire(doc: Doc, name: string, from: string, to: () => string | undefined): Doc {
  const is = (nodes: Record<string, DocNode>, link: string): string | undefined => {
    const [source, output] = splitLink(link);
    return output === from && definitionOf(nodes[source]) === name ? source : undefined;
  };
  const next = everywhere(doc, (nodes) => each(nodes, (node) => {
    const hit = Object.entries(node.links ?? {}).filter(([, link]) => is(nodes, link) !== undefined);
    if (!hit.length) return node;
    const links = { ...node.links };
    for (const [input, link] of hit) {
      if (to() === undefined) delete links[input];
      else links[input] = `${is(nodes, link)}.${to()}`;
    }
    return { ...node, links };
  }));
  const subgraphs = Object.entries(next.subgraphs ?? {}).map(([inner, part]) => {
    const outputs = part.outputs?.map((port) => {
      const source = port.link === undefined ? undefined : is(part.nodes, port.link);
      return source === undefined ? port : to() === undefined ? without(port, "link") : { ...port, link: `${source}.${to()}` };
    });
    return [inner, outputs?.some((port, index) => port !== part.outputs![index]) ? { ...part, outputs } : part] as const;
  });
  return { ...next, subgraphs: Object.fromEntries(subgraphs) };
}
