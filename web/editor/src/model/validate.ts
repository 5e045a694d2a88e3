/** What is wrong with a workflow, before anybody asks the server: kinds, missing inputs, ranges, cycles, unknown names. */

import { links, splitLink, type Doc, type DocNode } from "./document";
import { leftOut } from "./leftout";
import { hasField, inputOf, inputsOf, outputOf, type Catalog, type Input, type NodeType } from "./nodetype";

export interface Problem {
  code: string;
  message: string;
  remedy?: string;
  node?: string;
  port?: string;
  /** kinds of a link that does not fit, for whoever wants to put a converter in between */
  kinds?: [from: string, to: string];
}

/** The kind that an output really has: a `*` that is tied to an input has the kind of what is linked there. */
export function outputKind(doc: Doc, catalog: Catalog, node: string, output: string, depth = 0): string {
  const entry = doc.nodes[node];
  if (!entry) return "*";
  const type = catalog.of(entry);
  const port = outputOf(type, output);
  if (!port) return "*";
  if (!port.match || depth > 200) return port.kind;
  for (const [name, link] of Object.entries(entry.links ?? {})) {
    if (inputOf(type, name)?.match !== port.match || typeof link !== "string") continue;
    const [source, above] = splitLink(link);
    return outputKind(doc, catalog, source, above, depth + 1);
  }
  return port.kind;
}

export function validate(doc: Doc, catalog: Catalog): Problem[] {
  const found: Problem[] = [];
  for (const [id, node] of Object.entries(doc.nodes)) {
    if (node.mode === "muted") continue;
    const type = catalog.of(node);
    if (type.missing) {
      const remedy = "Install the pack that has it, or replace the node. It is kept as it is when you save.";
      found.push({ code: "unknown_node", message: `There is no node type ${node.type}.`, remedy, node: id });
      continue;
    }
    checkLinks(doc, catalog, id, node, type, found);
    if (node.mode !== "bypassed") checkValues(catalog, id, node, type, found);
  }
  for (const [id, { port, source, why, kind }] of leftOut(doc, catalog)) {
    if (why !== "bypassed") continue; // who mutes a node means to
    const remedy = `Link it to another node, take ${source} out of bypass, or mute this node too.`;
    found.push({ code: "left_out", message: `It is left out of runs: ${source} is bypassed and hands on nothing of kind ${kind}.`, remedy, node: id, port });
  }
  const cycle = findCycle(doc);
  if (cycle) {
    const remedy = "Remove one of its links.";
    found.push({ code: "cycle", message: `The links form a cycle: ${cycle.slice(0, 12).join(" → ")}.`, remedy, node: cycle[0] });
  }
  return found;
}

function checkLinks(doc: Doc, catalog: Catalog, id: string, node: DocNode, type: NodeType, found: Problem[]): void {
  for (const [name, link] of Object.entries(node.links ?? {})) {
    const input = inputOf(type, name);
    if (!input) {
      found.push({ code: "unknown_port", message: `It has no input ${name}.`, remedy: "Remove the link.", node: id, port: name });
      continue;
    }
    const [source, output] = splitLink(String(link));
    const above = doc.nodes[source];
    if (!above) {
      found.push({ code: "unknown_source", message: `It is linked to ${source}, which is not here.`, remedy: "Link it again.", node: id, port: name });
      continue;
    }
    const aboveType = catalog.of(above);
    if (!aboveType.missing && !outputOf(aboveType, output)) {
      found.push({ code: "unknown_port", message: `${source} has no output ${output}.`, remedy: "Link it again.", node: id, port: name });
      continue;
    }
    const kind = outputKind(doc, catalog, source, output);
    if (!catalog.accepts(input.kind, kind)) {
      const message = `It takes ${input.kind}, but ${source}.${output} gives ${kind}.`;
      found.push({ code: "wrong_kind", message, remedy: `Link an output of kind ${input.kind}.`, node: id, port: name, kinds: [kind, input.kind] });
    }
  }
}

function checkValues(catalog: Catalog, id: string, node: DocNode, type: NodeType, found: Problem[]): void {
  for (const input of inputsOf(type, node)) {
    if (node.links && input.name in node.links) continue;
    const value = node.values?.[input.name];
    if (value === undefined || value === null) {
      if (input.required) {
        const remedy = hasField(catalog, input) ? "Enter a value." : `Link an output of kind ${input.kind}.`;
        found.push({ code: "missing_input", message: `${input.widget?.label ?? input.name} is missing.`, remedy, node: id, port: input.name });
      }
      continue;
    }
    const wrong = wrongValue(input, value);
    if (wrong) found.push({ ...wrong, node: id, port: input.name });
  }
}

function wrongValue(input: Input, value: unknown): Problem | undefined {
  const name = input.widget?.label ?? input.name;
  if (input.as_list && Array.isArray(value)) return undefined;
  if (input.kind === "INT" || input.kind === "FLOAT") {
    if (typeof value !== "number" && typeof value !== "bigint") {
      return { code: "wrong_value", message: `${name} must be a number.`, remedy: "Enter a number." };
    }
    const { min = -Infinity, max = Infinity } = input.widget ?? {};
    if (value < min || value > max) {
      return { code: "out_of_range", message: `${name}: ${value} is outside ${min}..${max}.`, remedy: `Choose a value in ${min}..${max}.` };
    }
    if (input.kind === "INT" && typeof value === "number" && !Number.isInteger(value)) {
      return { code: "wrong_value", message: `${name} must be a whole number.`, remedy: "Round it." };
    }
  }
  if (input.kind === "COMBO" && input.widget?.options && !input.widget.options.includes(value as string)) {
    return { code: "unknown_option", message: `${name}: ${String(value).slice(0, 60)} is no option.`, remedy: `Choose one of ${input.widget.options.slice(0, 8).join(", ")}.` };
  }
  if (input.kind === "BOOLEAN" && typeof value !== "boolean") {
    return { code: "wrong_value", message: `${name} must be true or false.`, remedy: "Set it again." };
  }
  if (input.kind === "STRING" && input.widget?.upload && input.required && value === "") {
    return { code: "missing_input", message: `${name} names no file.`, remedy: "Choose a file, or drop one here." };
  }
  return undefined;
}

/** The ids along one cycle, the first one again at its end; undefined if there is none. */
export function findCycle(doc: Doc): string[] | undefined {
  const sources = new Map<string, string[]>();
  for (const link of links(doc)) sources.set(link.target, [...(sources.get(link.target) ?? []), link.source]);
  const done = new Set<string>();
  for (const start of sources.keys()) {
    const path: string[] = [start];
    const inside = new Set(path);
    const rest: string[][] = [[...(sources.get(start) ?? [])]];
    while (path.length) {
      const next = rest[rest.length - 1]!.pop();
      if (next === undefined) {
        const over = path.pop()!;
        inside.delete(over);
        done.add(over);
        rest.pop();
      } else if (inside.has(next)) {
        return [next, ...path.slice(path.indexOf(next) + 1).reverse(), next];
      } else if (!done.has(next)) {
        path.push(next);
        inside.add(next);
        rest.push([...(sources.get(next) ?? [])]);
      }
    }
  }
  return undefined;
}

/** Would a link from `source` to `target` close a cycle? */
export function closesCycle(doc: Doc, source: string, target: string): boolean {
  const seen = new Set<string>();
  const open = [source];
  while (open.length) {
    const id = open.pop()!;
    if (id === target) return true;
    if (seen.has(id)) continue;
    seen.add(id);
    for (const link of Object.values(doc.nodes[id]?.links ?? {})) open.push(splitLink(String(link))[0]);
  }
  return false;
}

/** May this output be linked to this input? */
export function fits(doc: Doc, catalog: Catalog, source: string, output: string, target: string, input: string): boolean {
  const node = doc.nodes[target];
  if (!node || source === target) return false;
  const port = inputOf(catalog.of(node), input);
  if (!port || !doc.nodes[source]) return false;
  return catalog.accepts(port.kind, outputKind(doc, catalog, source, output)) && !closesCycle(doc, source, target);
}

/** Node types that turn one kind into another, the simplest first. */
export function converters(catalog: Catalog, from: string, to: string): { type: NodeType; input: string; output: string }[] {
  const found = [];
  for (const type of catalog.types.values()) {
    if (type.library) continue;
    const input = type.inputs.find((port) => port.kind !== "*" && catalog.accepts(port.kind, from)) ?? type.inputs.find((port) => port.kind === "*" && !port.match);
    const output = type.outputs.find((port) => port.kind !== "*" && catalog.accepts(to, port.kind));
    if (!input || !output || type.inputs.some((port) => port.required && port !== input)) continue;
    found.push({ type, input: input.name, output: output.name });
  }
  return found.sort((a, b) => a.type.inputs.length - b.type.inputs.length);
}
