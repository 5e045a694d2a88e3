/**
 * Grid: the dots of the canvas. They lie on a sheet of their own that is moved by less than their distance: what only moves is not
 * drawn anew. Where there is no GPU, a pattern that fills the canvas is among the dearest things to draw.
 */

import { useStoreApi } from "@xyflow/react";
import { useEffect, useRef } from "react";

const GAP = 24;
const DOT = 0.7;

export function Grid() {
  const sheet = useRef<HTMLDivElement>(null);
  const flow = useStoreApi();
  useEffect(() => {
    const follow = (): void => {
      const { transform: [x, y, zoom] } = flow.getState();
      const gap = GAP * zoom;
      const style = sheet.current!.style;
      const size = `${gap}px ${gap}px`;
      if (style.backgroundSize !== size) {
        style.backgroundSize = size;
        style.setProperty("--dot", `${DOT * zoom}px`);
      }
      style.transform = `translate(${Math.round(x % gap)}px, ${Math.round(y % gap)}px)`; // whole pixels are copied, parts of them computed
    };
    follow();
    return flow.subscribe(follow);
  }, [flow]);
  return <div ref={sheet} className="grid" aria-hidden="true" />;
}
