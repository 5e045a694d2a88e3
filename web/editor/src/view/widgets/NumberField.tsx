/** NumberField: drag to change, click to type; what is typed may be a calculation. With narrow bounds a bar shows the place. */

import { useRef, useState } from "react";

import { calculate, clamp, tidy } from "../../model/arithmetic";
import type { Json } from "../../model/json";
import type { Widget } from "../../model/nodetype";
import { composing } from "../../state/keys";

interface Props {
  label: string;
  name: string;
  value: Json | undefined;
  whole: boolean;
  widget: Widget;
  onChange: (value: Json) => void;
}
const SLIDER_STEPS = 1000;
const PIXELS_PER_STEP = 4;

export function NumberField({ label, name, value, whole, widget, onChange }: Props) {
  const { min = -Infinity, max = Infinity } = widget;
  const step = widget.step ?? (whole ? 1 : 0.1);
  const [typing, setTyping] = useState<string | null>(null);
  const start = useRef<{ x: number; value: number; moved: boolean } | null>(null);
  const shown = typeof value === "bigint" ? value.toString() : typeof value === "number" ? String(tidy(value)) : "";
  const number = Number(value ?? 0);
  const slider = Number.isFinite(min) && Number.isFinite(max) && (max - min) / step <= SLIDER_STEPS && max > min;
  const share = slider ? clamp((number - min) / (max - min), 0, 1) : null;
  const fix = (raw: number): number => clamp(whole ? Math.round(raw) : tidy(raw), min, max);

  const commit = (text: string): void => {
    setTyping(null);
    if (/^\d{16,}$/.test(text.trim()) && whole) {
      const big = BigInt(text.trim());
      return onChange(big <= BigInt(Number.isFinite(max) ? max : Number.MAX_SAFE_INTEGER) ? big : fix(max));
    }
    const result = calculate(text);
    if (result !== undefined && text !== shown) onChange(fix(result));
  };
  const nudge = (count: number): void => typeof value === "bigint" ? onChange(value + BigInt(count)) : onChange(fix(Math.round(number / step + count) * step));

  if (typing !== null) {
    return (
      <label className="number typing">
        <span>{label}</span>
        <input
          autoFocus aria-label={name} inputMode="decimal" value={typing} onChange={(event) => setTyping(event.target.value)} onFocus={(event) => event.target.select()}
          onBlur={(event) => commit(event.target.value)}
          onKeyDown={(event) => {
            event.stopPropagation();
            if (composing(event)) return;
            if (event.key === "Enter") commit(event.currentTarget.value);
            if (event.key === "Escape") setTyping(null);
          }}
        />
      </label>
    );
  }
  return (
    <div
      className="number" role="spinbutton" tabIndex={0} aria-label={name} aria-valuenow={number} aria-valuetext={shown} aria-valuemin={Number.isFinite(min) ? min : undefined} aria-valuemax={Number.isFinite(max) ? max : undefined}
      style={share === null ? undefined : ({ "--share": share } as React.CSSProperties)} data-slider={slider || undefined}
      onPointerDown={(event) => {
        if (event.button !== 0 || (event.target as HTMLElement).closest("button")) return;
        event.currentTarget.setPointerCapture(event.pointerId);
        start.current = { x: event.clientX, value: number, moved: false };
      }}
      onPointerMove={(event) => {
        const from = start.current;
        if (!from) return;
        const way = event.clientX - from.x;
        if (!from.moved && Math.abs(way) < 3) return;
        from.moved = true;
        const fine = event.shiftKey ? 0.1 : event.ctrlKey ? 10 : 1;
        const steps = slider ? (way / event.currentTarget.clientWidth) * ((max - min) / step) : way / PIXELS_PER_STEP;
        onChange(fix(Math.round((from.value + steps * step * fine) / step) * step));
      }}
      onPointerUp={() => {
        if (start.current && !start.current.moved) setTyping(shown);
        start.current = null;
      }}
      onKeyDown={(event) => {
        if (event.key === "ArrowUp" || event.key === "ArrowRight") nudge(event.shiftKey ? 10 : 1);
        else if (event.key === "ArrowDown" || event.key === "ArrowLeft") nudge(event.shiftKey ? -10 : -1);
        else if (event.key === "Enter" || event.key === "F2") setTyping(shown);
        else if (/^[\d.=(-]$/.test(event.key)) setTyping(event.key);
        else return;
        event.preventDefault();
        event.stopPropagation();
      }}
    >
      <button className="mini" tabIndex={-1} aria-hidden="true" onClick={() => nudge(-1)}>‹</button>
      <span>{label}</span>
      <b>{shown}</b>
      <button className="mini" tabIndex={-1} aria-hidden="true" onClick={() => nudge(1)}>›</button>
    </div>
  );
}
