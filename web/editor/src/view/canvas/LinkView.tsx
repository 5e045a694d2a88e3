/** LinkView: a link, through its reroutes. Alt-click puts a reroute on it; a reroute can be dragged, and alt-clicked away. */

import { BaseEdge, getBezierPath, getSmoothStepPath, getStraightPath, useReactFlow, type EdgeProps } from "@xyflow/react";
import { memo, useState } from "react";

import type { Point } from "../../model/document";
import { setReroute } from "../../model/edit";
import { settings } from "../../state/settings";
import { useStore } from "../../state/store";
import { change } from "../../state/workspace";
import type { LinkEdge } from "./flow";

export const LinkView = memo(function LinkView(props: EdgeProps<LinkEdge>) {
  const { id, sourceX, sourceY, targetX, targetY, data, selected } = props;
  const form = useStore(settings, (now) => now.links);
  const flow = useReactFlow();
  const [moving, setMoving] = useState<Point[] | null>(null);
  const points = moving ?? data?.points ?? [];
  const stops = [{ x: sourceX, y: sourceY }, ...points, { x: targetX, y: targetY }];
  const path = stops.slice(1).map((to, index) => segment(form, stops[index]!, to)).join(" ");
  const style = { stroke: data?.color, strokeWidth: selected ? 3.5 : 2.2, strokeOpacity: data?.faint ? 0.06 : selected ? 1 : 0.82, strokeDasharray: data?.wrong ? "7 5" : undefined };

  const add = (event: React.MouseEvent): void => {
    if (!event.altKey) return;
    event.stopPropagation();
    const at = flow.screenToFlowPosition({ x: event.clientX, y: event.clientY });
    const index = nearest(stops, at);
    change("reroute", (doc) => setReroute(doc, id, [...points.slice(0, index), at, ...points.slice(index)]));
  };
  const drag = (index: number) => (event: React.PointerEvent<SVGCircleElement>): void => {
    event.stopPropagation();
    if (event.altKey) {
      change("reroute", (doc) => setReroute(doc, id, points.filter((_point, at) => at !== index)));
      return;
    }
    event.currentTarget.setPointerCapture(event.pointerId);
    setMoving([...points]);
  };
  const follow = (index: number) => (event: React.PointerEvent): void => {
    if (!moving) return;
    const at = flow.screenToFlowPosition({ x: event.clientX, y: event.clientY });
    setMoving(moving.map((point, number) => (number === index ? { x: Math.round(at.x), y: Math.round(at.y) } : point)));
  };
  const letGo = (): void => {
    if (moving) change("reroute", (doc) => setReroute(doc, id, moving));
    setMoving(null);
  };
  return (
    <g onClickCapture={add}>
      <BaseEdge id={id} path={path} style={style} interactionWidth={16} />
      {points.map((point, index) => (
        <circle key={index} className="reroute nopan nodrag" cx={point.x} cy={point.y} r={6} style={{ fill: data?.color }} onPointerDown={drag(index)} onPointerMove={follow(index)} onPointerUp={letGo} />
      ))}
    </g>
  );
});

function segment(form: "curve" | "straight" | "step", from: Point, to: Point): string {
  const ends = { sourceX: from.x, sourceY: from.y, targetX: to.x, targetY: to.y };
  if (form === "straight") return getStraightPath(ends)[0];
  // from right to left, as sockets have it
  const sides = { ...ends, sourcePosition: "right" as never, targetPosition: "left" as never };
  return form === "step" ? getSmoothStepPath(sides)[0] : getBezierPath(sides)[0];
}

/** Between which stops a point belongs. */
function nearest(stops: readonly Point[], at: Point): number {
  let best = 0;
  let least = Infinity;
  for (let index = 0; index + 1 < stops.length; index++) {
    const [a, b] = [stops[index]!, stops[index + 1]!];
    const detour = Math.hypot(a.x - at.x, a.y - at.y) + Math.hypot(b.x - at.x, b.y - at.y) - Math.hypot(a.x - b.x, a.y - b.y);
    if (detour < least) [best, least] = [index, detour];
  }
  return best;
}
