/**
 * Bundles: all links of a workflow as few paths. One path for each link would be many parts of the page; a single one for all is
 * dear to draw where there is no GPU, as the browser draws in tiles and goes through the whole path for each. So links of one
 * colour share a path where they lie close to each other.
 */

import { splitLink, type Doc, type Point } from "../../model/document";
import type { Catalog } from "../../model/nodetype";
import { HEAD, PAD, shapeOf, type Row } from "../../model/shape";
import { outputKind } from "../../model/validate";

/** Side of the squares by which links are put together: about two nodes. */
const NEAR = 800;

export interface Bundle {
  key: string;
  color: string;
  path: string;
}

export function bundlesOf(doc: Doc, catalog: Catalog, dragged: ReadonlyMap<string, Point>): Bundle[] {
  const bundles = new Map<string, Bundle>();
  for (const [target, node] of Object.entries(doc.nodes)) {
    for (const [input, text] of Object.entries(node.links ?? {})) {
      const [source, output] = splitLink(String(text));
      const above = doc.nodes[source];
      if (!above) continue;
      const shape = shapeOf(catalog, above);
      const corner = place(dragged.get(source) ?? above.ui, shape.rows, (row) => row.output?.name === output, above.ui?.collapsed);
      const from = { x: corner.x + shape.width, y: corner.y };
      const to = place(dragged.get(target) ?? node.ui, shapeOf(catalog, node).rows, (row) => row.input?.name === input && !row.more, node.ui?.collapsed);
      const bend = Math.max(40, Math.abs(to.x - from.x) / 2);
      const path = `M${from.x} ${from.y}C${from.x + bend} ${from.y} ${to.x - bend} ${to.y} ${to.x} ${to.y}`;
      const color = catalog.color(outputKind(doc, catalog, source, output));
      const key = `${color} ${Math.floor((from.x + to.x) / 2 / NEAR)} ${Math.floor((from.y + to.y) / 2 / NEAR)}`;
      const known = bundles.get(key);
      if (known) known.path += path;
      else bundles.set(key, { key, color, path });
    }
  }
  return [...bundles.values()];
}

function place(corner: { x?: number; y?: number } | undefined, rows: readonly Row[], is: (row: Row) => boolean, collapsed: boolean | undefined): Point {
  let y = HEAD + PAD;
  for (const row of rows) {
    if (is(row)) break;
    y += row.height;
  }
  return { x: corner?.x ?? 0, y: (corner?.y ?? 0) + (collapsed ? HEAD / 2 : y + 13) };
}
