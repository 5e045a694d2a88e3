/** Chart: the numbers of a table as bars, where there are few and they have names, else as lines. */

import { useEffect, useRef, useState } from "react";

import { useT } from "../../i18n/t";
import { short } from "../../model/digest";
import type { Table } from "../../model/table";

const COLOURS = ["#6f9bff", "#ff9d5c", "#5cc79b", "#e06fa8", "#c9b458", "#9b8cff"];
const [LEFT, BOTTOM] = [44, 22];
const MOST_BARS = 24;
const MOST_POINTS = 600;

export function Chart({ table, numbers }: { table: Table; numbers: number[] }) {
  const t = useT();
  const sheet = useRef<SVGSVGElement>(null);
  const [{ width, height }, setSize] = useState({ width: 480, height: 220 });
  const [under, setUnder] = useState<number | null>(null);
  useEffect(() => {
    const watch = new ResizeObserver(([entry]) => {
      const room = entry!.contentRect;
      if (room.width && room.height) setSize({ width: room.width, height: room.height });
    });
    watch.observe(sheet.current!);
    return () => watch.disconnect();
  }, []);
  // a first column of rising numbers is what the others are drawn over
  const first = table.rows.map((row) => row[0]);
  const rising = numbers[0] === 0 && numbers.length > 1 && first.every((cell, at) => at === 0 || Number(cell) > Number(first[at - 1]));
  const series = (rising ? numbers.slice(1) : numbers).slice(0, COLOURS.length);
  const every = Math.ceil(table.rows.length / MOST_POINTS);
  const rows = table.rows.filter((_row, at) => at % every === 0);
  const label = (row: unknown[]): string => (rising || !numbers.includes(0) ? String(row[0] ?? "") : String(rows.indexOf(row) + 1));
  const bars = rows.length <= MOST_BARS && !rising;
  const values = rows.flatMap((row) => series.map((column) => Number(row[column] ?? NaN))).filter(Number.isFinite);
  const low = Math.min(bars ? 0 : Infinity, ...values);
  const high = Math.max(bars ? 0 : -Infinity, ...values);
  const span = high - low || 1;
  const y = (value: number): number => 8 + (1 - (value - low) / span) * (height - BOTTOM - 8);
  const step = (width - LEFT - 8) / Math.max(1, bars ? rows.length : rows.length - 1);
  const x = (at: number): number => LEFT + (bars ? (at + 0.5) * step : at * step);
  const names = series.map((column) => table.columns[column]!);
  const row = under === null ? undefined : rows[under];
  return (
    <div className="chart">
      <svg
        ref={sheet} viewBox={`0 0 ${width} ${height}`} role="img" aria-label={t("table.chart.of", { names: names.join(", "), count: rows.length, low: short(low), high: short(high) })} preserveAspectRatio="none"
        onPointerMove={(event) => {
          const box = event.currentTarget.getBoundingClientRect();
          const place = ((event.clientX - box.left) / box.width) * width - LEFT;
          setUnder(Math.min(rows.length - 1, Math.max(0, bars ? Math.floor(place / step) : Math.round(place / step))));
        }}
        onPointerLeave={() => setUnder(null)}
      >
        {[low, low + span / 2, high].map((value, at) => (
          <g key={at}>
            <line x1={LEFT} x2={width - 8} y1={y(value)} y2={y(value)} className="rule" />
            <text x={LEFT - 5} y={y(value) + 3.5} textAnchor="end">{short(value)}</text>
          </g>
        ))}
        {row && <line x1={x(under!)} x2={x(under!)} y1={8} y2={height - BOTTOM} className="rule here" />}
        {series.map((column, order) => {
          const color = COLOURS[order]!;
          if (!bars) return <polyline key={column} fill="none" stroke={color} strokeWidth={1.6} vectorEffect="non-scaling-stroke" points={rows.flatMap((one, at) => (Number.isFinite(Number(one[column] ?? NaN)) ? [`${x(at)},${y(Number(one[column]))}`] : [])).join(" ")} />;
          const wide = (step * 0.8) / series.length;
          return rows.map((one, at) => {
            const value = Number(one[column] ?? NaN);
            if (!Number.isFinite(value)) return null;
            return <rect key={`${column}.${at}`} data-bar={value} x={x(at) - step * 0.4 + order * wide} width={wide * 0.92} y={Math.min(y(value), y(0))} height={Math.max(0.5, Math.abs(y(value) - y(0)))} fill={color} />;
          });
        })}
        {[0, rows.length - 1].map((at) => <text key={at} x={at ? width - 8 : LEFT} y={height - 6} textAnchor={at ? "end" : "start"}>{label(rows[at]!).slice(0, 24)}</text>)}
      </svg>
      <p className="legend">
        {row && <b>{label(row)}</b>}
        {series.map((column, order) => <span key={column}><i style={{ background: COLOURS[order] }} />{names[order]}{row ? ` ${short(Number(row[column] ?? NaN))}` : ""}</span>)}
      </p>
    </div>
  );
}
