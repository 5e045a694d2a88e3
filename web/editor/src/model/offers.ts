/** Offers: every link that a node could have, for those who do not draw. */

import { links, type Doc } from "./document";
import { inputsOf, nextMore, type Catalog } from "./nodetype";
import { fits } from "./validate";

export interface Offer {
  source: string;
  output: string;
  target: string;
  input: string;
  /** the input has a link already, which this one would replace */
  taken: boolean;
}

/** From the node's outputs and to its inputs, free inputs first. */
export function offers(doc: Doc, catalog: Catalog, id: string): Offer[] {
  const now = new Map(links(doc).map((link) => [`${link.target}.${link.input}`, `${link.source}.${link.output}`]));
  const found: Offer[] = [];
  const offer = (source: string, target: string): void => {
    const [above, below] = [doc.nodes[source]!, doc.nodes[target]!];
    const type = catalog.of(below);
    const inputs = inputsOf(type, below).map((input) => input.name);
    if (type.more) inputs.push(nextMore(type, below));
    for (const { name: output } of catalog.of(above).outputs) {
      for (const input of inputs) {
        const there = now.get(`${target}.${input}`);
        if (there !== `${source}.${output}` && fits(doc, catalog, source, output, target, input)) found.push({ source, output, target, input, taken: there !== undefined });
      }
    }
  };
  if (!doc.nodes[id]) return found;
  for (const other of Object.keys(doc.nodes)) {
    if (other === id) continue;
    offer(id, other);
    offer(other, id);
  }
  return found.sort((a, b) => Number(a.taken) - Number(b.taken));
}
