/** Minimap: the whole workflow on one small canvas. A press moves the view there. */

import { useReactFlow, useStoreApi } from "@xyflow/react";
import { useEffect, useRef } from "react";

import { useT } from "../../i18n/t";
import { bounds, frameOf } from "../../model/shape";
import { runs } from "../../state/runs";
import { server } from "../../state/server";
import { active, workspace } from "../../state/workspace";
import { hueOf } from "./hue";

const WIDTH = 200;
const HEIGHT = 130;
const COLORS: Record<string, string> = { running: "#7aa2ff", failed: "#f0626c", done: "#4fb98a", cached: "#4f8f7a" };

export function Minimap() {
  const t = useT();
  const canvas = useRef<HTMLCanvasElement>(null);
  const scale = useRef({ factor: 1, x: 0, y: 0 });
  const api = useStoreApi();
  const flow = useReactFlow();

  useEffect(() => {
    let asked = 0;
    let last: unknown[] = [];
    const draw = (): void => {
      asked = 0;
      const pen = canvas.current?.getContext("2d");
      if (!pen) return;
      const { transform: [x, y, zoom], width, height } = api.getState();
      const tab = active();
      const doc = tab.history.present;
      const { catalog } = server.get();
      const run = tab.run ? runs.get()[tab.run] : undefined;
      const now = [x, y, zoom, width, height, doc, catalog, run?.nodes];
      if (now.every((value, index) => value === last[index])) return;
      last = now;
      const view = { x: -x / zoom, y: -y / zoom, width: width / zoom, height: height / zoom };
      const nodes = Object.entries(doc.nodes).map(([id, node]) => ({ id, node, frame: frameOf(catalog, node) }));
      const all = bounds([...nodes.map((entry) => entry.frame), ...(doc.ui?.groups ?? []), view]);
      const factor = Math.min(WIDTH / (all.width || 1), HEIGHT / (all.height || 1)) * 0.92;
      const left = all.x - (WIDTH / factor - all.width) / 2;
      const top = all.y - (HEIGHT / factor - all.height) / 2;
      scale.current = { factor, x: left, y: top };
      const ratio = devicePixelRatio || 1;
      pen.setTransform(ratio * factor, 0, 0, ratio * factor, -left * ratio * factor, -top * ratio * factor);
      pen.clearRect(left, top, WIDTH / factor, HEIGHT / factor);
      for (const group of doc.ui?.groups ?? []) {
        pen.fillStyle = `${group.color}55`;
        pen.fillRect(group.x, group.y, group.width, group.height);
      }
      for (const { id, node, frame } of nodes) {
        pen.fillStyle = COLORS[run?.nodes[id]?.status ?? ""] ?? `hsl(${hueOf(catalog.of(node).category)} 30% 52%)`;
        pen.globalAlpha = node.mode === "muted" ? 0.35 : 0.9;
        pen.fillRect(frame.x, frame.y, frame.width, frame.height);
      }
      pen.globalAlpha = 1;
      pen.lineWidth = 1.5 / factor;
      pen.strokeStyle = "#9fb4ffcc";
      pen.strokeRect(view.x, view.y, view.width, view.height);
    };
    const ask = (): void => {
      asked ||= requestAnimationFrame(draw);
    };
    const stops = [api.subscribe(ask), workspace.subscribe(ask), server.subscribe(ask), runs.subscribe(ask)];
    ask();
    return () => {
      stops.forEach((stop) => stop());
      cancelAnimationFrame(asked);
    };
  }, [api]);

  const go = (event: React.PointerEvent<HTMLCanvasElement>): void => {
    if (event.buttons !== 1) return;
    const box = event.currentTarget.getBoundingClientRect();
    const { factor, x, y } = scale.current;
    void flow.setCenter((event.clientX - box.left) / factor + x, (event.clientY - box.top) / factor + y, { zoom: flow.getZoom() });
  };
  const ratio = window.devicePixelRatio || 1;
  return <canvas ref={canvas} className="minimap" width={WIDTH * ratio} height={HEIGHT * ratio} role="img" aria-label={t("minimap")} onPointerDown={go} onPointerMove={go} />;
}
