/** FarLinks: all links of a workflow that is looked at from afar, as one path per colour: nobody could press a single one there. */

import { ViewportPortal } from "@xyflow/react";
import { memo } from "react";

import { splitLink, type Doc, type Point } from "../../model/document";
import type { Catalog } from "../../model/nodetype";
import { HEAD, PAD, shapeOf, type Row } from "../../model/shape";
import { outputKind } from "../../model/validate";

export const FarLinks = memo(function FarLinks({ doc, catalog, dragged }: { doc: Doc; catalog: Catalog; dragged: ReadonlyMap<string, Point> }) {
  const paths = new Map<string, string[]>();
  for (const [target, node] of Object.entries(doc.nodes)) {
    for (const [input, text] of Object.entries(node.links ?? {})) {
      const [source, output] = splitLink(String(text));
      const above = doc.nodes[source];
      if (!above) continue;
      const shape = shapeOf(catalog, above);
      const from = place(dragged.get(source) ?? above.ui, shape.rows, (row) => row.output?.name === output, above.ui?.collapsed);
      const to = place(dragged.get(target) ?? node.ui, shapeOf(catalog, node).rows, (row) => row.input?.name === input && !row.more, node.ui?.collapsed);
      const x = from.x + shape.width;
      const bend = Math.max(40, Math.abs(to.x - x) / 2);
      const color = catalog.color(outputKind(doc, catalog, source, output));
      const path = `M${x} ${from.y}C${x + bend} ${from.y} ${to.x - bend} ${to.y} ${to.x} ${to.y}`;
      const known = paths.get(color);
      if (known) known.push(path);
      else paths.set(color, [path]);
    }
  }
  return (
    <ViewportPortal>
      <svg className="far-links" aria-hidden="true">
        {[...paths].map(([color, parts]) => <path key={color} d={parts.join("")} style={{ stroke: color }} />)}
      </svg>
    </ViewportPortal>
  );
});

function place(corner: { x?: number; y?: number } | undefined, rows: readonly Row[], is: (row: Row) => boolean, collapsed: boolean | undefined): Point {
  let y = HEAD + PAD;
  for (const row of rows) {
    if (is(row)) break;
    y += row.height;
  }
  return { x: corner?.x ?? 0, y: (corner?.y ?? 0) + (collapsed ? HEAD / 2 : y + 13) };
}
