/** Socket: the coloured dot where a link begins or ends. While a link is drawn, those that fit it light up. */

import { Handle, Position } from "@xyflow/react";
import { memo } from "react";

import { screen } from "../../state/screen";
import { server } from "../../state/server";
import { useStore } from "../../state/store";

interface Props {
  node: string;
  port: string;
  side: "input" | "output";
  kind: string;
  title: string;
  list?: boolean;
  quiet?: boolean;
}

export const Socket = memo(function Socket({ node, port, side, kind, title, list, quiet }: Props) {
  const catalog = useStore(server, (now) => now.catalog);
  const fit = useStore(screen, ({ drawing }) => {
    if (!drawing) return "";
    if (drawing.side !== side || drawing.node === node) return "no";
    return (side === "input" ? catalog.accepts(kind, drawing.kind) : catalog.accepts(drawing.kind, kind)) ? "yes" : "no";
  });
  return (
    <Handle
      id={`${side === "input" ? "i" : "o"}:${port}`}
      type={side === "input" ? "target" : "source"}
      position={side === "input" ? Position.Left : Position.Right}
      className={`socket ${list ? "list" : ""} ${quiet ? "quiet" : ""}`}
      data-fit={fit || undefined}
      style={{ "--kind": catalog.color(kind) } as React.CSSProperties}
      title={`${title}: ${kind}`}
      role="img"
      aria-label={`${title}, ${kind}`}
    />
  );
});
