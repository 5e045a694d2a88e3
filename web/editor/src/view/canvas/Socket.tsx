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
      onMouseDownCapture={(event) => event.button === 0 && side === "input" && hold(event, `${node}.${port}`, event)}
      onTouchStartCapture={(event) => side === "input" && event.touches.length === 1 && hold(event, `${node}.${port}`, event.touches[0]!)}
      style={{ "--kind": catalog.color(kind) } as React.CSSProperties}
      title={`${title}: ${kind}`}
      role="img"
      aria-label={`${title}, ${kind}`}
    />
  );
});

/** Who draws from an input that is linked holds the end of that link: the press goes to the end that React Flow has for it. */
function hold(event: React.SyntheticEvent, link: string, { clientX, clientY }: { clientX: number; clientY: number }): void {
  const end = document.querySelector(`.react-flow__edge[data-id="${CSS.escape(link)}"] .react-flow__edgeupdater-target`);
  if (!end) return;
  event.stopPropagation();
  end.dispatchEvent(new MouseEvent("mousedown", { bubbles: true, button: 0, clientX, clientY }));
}
