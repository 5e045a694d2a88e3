/** Minimap: the whole workflow on one small canvas. A press moves the view there. */

import { useReactFlow, useStoreApi } from "@xyflow/react";
import { useEffect, useRef } from "react";

import { useT } from "../../i18n/t";
import type { Doc } from "../../model/document";
import type { Catalog } from "../../model/nodetype";
import { bounds, frameOf } from "../../model/shape";
import { pathOf } from "../../model/subgraph";
import { stateOf } from "../../state/run";
import { runs } from "../../state/runs";
import { server } from "../../state/server";
import { active, here, workspace } from "../../state/workspace";
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
    const still = document.createElement("canvas");
    const draw = (): void => {
      asked = 0;
      const pen = canvas.current?.getContext("2d");
      if (!pen || !canvas.current) return;
      const { transform: [x, y, zoom], width, height } = api.getState();
      const tab = active();
      const doc = here(tab);
      const { catalog } = server.get();
      const run = tab.run ? runs.get()[tab.run] : undefined;
      const now = [doc, catalog, run];
      if (now.some((value, index) => value !== last[index])) {
        last = now;
        scale.current = drawNodes(still, canvas.current, doc, catalog, (id) => stateOf(run, pathOf(tab.inside, id))?.status);
      }
      const { factor, x: left, y: top } = scale.current;
      const ratio = devicePixelRatio || 1;
      pen.setTransform(1, 0, 0, 1, 0, 0);
      pen.clearRect(0, 0, still.width, still.height);
      pen.drawImage(still, 0, 0);
      pen.strokeStyle = "#9fb4ffcc";
      pen.lineWidth = 1.5 * ratio;
      pen.strokeRect((-x / zoom - left) * factor * ratio, (-y / zoom - top) * factor * ratio, (width / zoom) * factor * ratio, (height / zoom) * factor * ratio);
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

/** Nodes and groups: what stays the same while only the view moves. Returns the scale, and what lies at the top left. */
function drawNodes(still: HTMLCanvasElement, like: HTMLCanvasElement, doc: Doc, catalog: Catalog, statusOf: (id: string) => string | undefined): { factor: number; x: number; y: number } {
  still.width = like.width;
  still.height = like.height;
  const ratio = like.width / WIDTH;
  const nodes = Object.entries(doc.nodes).map(([id, node]) => ({ id, node, frame: frameOf(catalog, node) }));
  const groups = doc.ui?.groups ?? [];
  const all = bounds([...nodes.map((entry) => entry.frame), ...groups]);
  const factor = Math.min(WIDTH / Math.max(all.width, 1600), HEIGHT / Math.max(all.height, 1000)) * 0.86;
  const x = all.x - (WIDTH / factor - all.width) / 2;
  const y = all.y - (HEIGHT / factor - all.height) / 2;
  const pen = still.getContext("2d")!;
  pen.setTransform(ratio * factor, 0, 0, ratio * factor, -x * ratio * factor, -y * ratio * factor);
  for (const group of groups) {
    pen.fillStyle = `${group.color}55`;
    pen.fillRect(group.x, group.y, group.width, group.height);
  }
  for (const { id, node, frame } of nodes) {
    pen.fillStyle = COLORS[statusOf(id) ?? ""] ?? `hsl(${hueOf(catalog.of(node).category)} 30% 52%)`;
    pen.globalAlpha = node.mode === "muted" ? 0.35 : 0.9;
    pen.fillRect(frame.x, frame.y, frame.width, frame.height);
  }
  return { factor, x, y };
}
