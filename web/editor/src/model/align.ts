/** Align: new places for selected things. */

import type { Frame, Point } from "./document";

export type Side = "left" | "right" | "top" | "bottom" | "center" | "middle" | "spread-x" | "spread-y";

export function align(frames: ReadonlyMap<string, Frame>, side: Side): Map<string, Point> {
  const list = [...frames];
  const places = new Map<string, Point>();
  if (list.length < 2) return places;
  const left = Math.min(...list.map(([, frame]) => frame.x));
  const right = Math.max(...list.map(([, frame]) => frame.x + frame.width));
  const top = Math.min(...list.map(([, frame]) => frame.y));
  const bottom = Math.max(...list.map(([, frame]) => frame.y + frame.height));
  if (side === "spread-x" || side === "spread-y") {
    const [axis, size] = side === "spread-x" ? (["x", "width"] as const) : (["y", "height"] as const);
    list.sort(([, a], [, b]) => a[axis] - b[axis]);
    const total = list.reduce((sum, [, frame]) => sum + frame[size], 0);
    const gap = Math.max(16, ((axis === "x" ? right - left : bottom - top) - total) / (list.length - 1));
    let at = axis === "x" ? left : top;
    for (const [id, frame] of list) {
      places.set(id, { x: frame.x, y: frame.y, [axis]: Math.round(at) });
      at += frame[size] + gap;
    }
    return places;
  }
  for (const [id, frame] of list) {
    const x = { left, right: right - frame.width, center: (left + right - frame.width) / 2 }[side as "left"] ?? frame.x;
    const y = { top, bottom: bottom - frame.height, middle: (top + bottom - frame.height) / 2 }[side as "top"] ?? frame.y;
    places.set(id, { x: Math.round(x), y: Math.round(y) });
  }
  return places;
}
