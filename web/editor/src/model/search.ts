/** Search: which node types a person means, the best first. */

import { hasField, type Catalog, type NodeType } from "./nodetype";

/** Of a link that is being drawn: what the new node has to take or to give. */
export interface Wanted {
  side: "input" | "output";
  kind: string;
}

export function search(catalog: Catalog, text: string, wanted?: Wanted): NodeType[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const found: [number, NodeType][] = [];
  for (const type of catalog.types.values()) {
    if (wanted && !portFor(catalog, type, wanted)) continue;
    const score = words.reduce((sum, word) => sum + rank(type, word), 0);
    if (score < Infinity) found.push([score, type]);
  }
  const exact = (type: NodeType): number => (wanted && portFor(catalog, type, wanted)?.exact ? 0 : 1);
  return found
    .sort(([a, left], [b, right]) => a - b || exact(left) - exact(right) || left.title.localeCompare(right.title))
    .map(([, type]) => type);
}

/** The port of that type that a link of this kind would go to. */
export function portFor(catalog: Catalog, type: NodeType, wanted: Wanted): { port: string; exact: boolean } | undefined {
  if (wanted.side === "output") {
    const ports = type.outputs.filter((port) => catalog.accepts(wanted.kind, port.kind));
    const best = ports.find((port) => port.kind === wanted.kind) ?? ports[0];
    return best && { port: best.name, exact: best.kind === wanted.kind };
  }
  const ports = type.inputs.filter((port) => catalog.accepts(port.kind, wanted.kind));
  const best =
    ports.find((port) => port.kind === wanted.kind && port.required) ??
    ports.find((port) => port.kind === wanted.kind && !hasField(catalog, port)) ??
    ports.find((port) => port.kind === wanted.kind) ??
    ports[0];
  if (best) return { port: best.name, exact: best.kind === wanted.kind };
  return type.more && catalog.accepts(type.more.kind, wanted.kind) ? { port: `${type.more.name}_1`, exact: false } : undefined;
}

function rank(type: NodeType, word: string): number {
  const title = type.title.toLowerCase();
  const also = type.also?.toLowerCase() ?? "";
  if (title === word) return 0;
  if (title.startsWith(word)) return 1;
  if (title.split(/\s+/).some((part) => part.startsWith(word))) return 2;
  if (title.includes(word) || also.includes(word)) return 3;
  if (type.id.toLowerCase().includes(word)) return 4;
  if (`${type.category} ${type.group ?? ""}`.toLowerCase().includes(word)) return 6;
  if ([...type.inputs, ...type.outputs].some((port) => port.kind.toLowerCase() === word)) return 7;
  if (type.description.toLowerCase().includes(word)) return 9;
  return subsequence(title, word) || subsequence(also, word) ? 12 : Infinity;
}

/** "ldimg" finds "load image". */
function subsequence(text: string, letters: string): boolean {
  let at = 0;
  for (const letter of text) if (letter === letters[at]) at++;
  return letters.length > 2 && at === letters.length;
}
