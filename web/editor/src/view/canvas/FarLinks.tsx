/** FarLinks: all links of a workflow that is looked at from afar, as one drawing: nobody could press a single one there. */

import { ViewportPortal } from "@xyflow/react";
import { memo } from "react";

import type { Doc, Point } from "../../model/document";
import type { Catalog } from "../../model/nodetype";
import { bundlesOf } from "./bundles";

export const FarLinks = memo(function FarLinks({ doc, catalog, dragged }: { doc: Doc; catalog: Catalog; dragged: ReadonlyMap<string, Point> }) {
  return (
    <ViewportPortal>
      <svg className="far-links" aria-hidden="true">
        {bundlesOf(doc, catalog, dragged).map(({ key, color, path }) => <path key={key} d={path} style={{ stroke: color }} />)}
      </svg>
    </ViewportPortal>
  );
});
