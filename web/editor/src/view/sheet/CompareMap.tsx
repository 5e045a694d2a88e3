/** CompareMap: both versions as one drawing; what came, went and changed is coloured, and what is different can be chosen. */

import { useMemo, useState } from "react";

import { useT } from "../../i18n/t";
import type { Compared, Line } from "../../model/compare";
import { bounds } from "../../model/shape";

export function CompareMap({ nodes, lines, chosen, onChoose }: { nodes: readonly Compared[]; lines: readonly Line[]; chosen: string | null; onChoose: (node: string) => void }) {
  const t = useT();
  const [zoom, setZoom] = useState(1);
  const all = useMemo(() => bounds(nodes.map((one) => one.frame)), [nodes]);
  const frames = useMemo(() => new Map(nodes.map((one) => [one.node, one.frame])), [nodes]);
  const size = Math.max(20, Math.min(40, all.width / 70));
  return (
    <div className="compare-map">
      <div className="stage">
        <svg viewBox={`${all.x - 40} ${all.y - 40} ${Math.max(200, all.width + 80)} ${Math.max(120, all.height + 80)}`} style={{ width: `${zoom * 100}%`, height: `${zoom * 100}%` }} role="group" aria-label={t("compare.map")}>
          {lines.map(({ source, target, fate }, index) => {
            const [from, to] = [frames.get(source), frames.get(target)];
            if (!from || !to) return null;
            const [x, y, u, v] = [from.x + from.width, from.y + from.height / 2, to.x, to.y + to.height / 2];
            const bend = Math.max(40, Math.abs(u - x) / 2);
            return <path key={index} className={fate} d={`M${x} ${y}C${x + bend} ${y} ${u - bend} ${v} ${u} ${v}`} vectorEffect="non-scaling-stroke" />;
          })}
          {nodes.map(({ node, title, fate, frame }) => {
            const name = `${title}, ${t(`compare.is.${fate}`)}`;
            const plate = (
              <>
                <title>{name}</title>
                <rect x={frame.x} y={frame.y} width={frame.width} height={frame.height} rx={12} vectorEffect="non-scaling-stroke" />
                <text x={frame.x + 14} y={frame.y + size * 1.3} fontSize={size}>{title.slice(0, Math.max(4, Math.floor(frame.width / size / 0.55) - 1))}</text>
              </>
            );
            if (fate === "same") return <g key={node} className={fate}>{plate}</g>;
            return (
              <g
                key={node} className={`${fate} ${node === chosen ? "chosen" : ""}`} role="button" tabIndex={0} aria-label={name} onClick={() => onChoose(node)}
                onKeyDown={(event) => {
                  if (event.key !== "Enter" && event.key !== " ") return;
                  event.preventDefault();
                  onChoose(node);
                }}
              >{plate}</g>
            );
          })}
        </svg>
      </div>
      <input type="range" min={1} max={6} step={0.5} value={zoom} aria-label={t("zoom")} onChange={(event) => setZoom(Number(event.target.value))} />
    </div>
  );
}
