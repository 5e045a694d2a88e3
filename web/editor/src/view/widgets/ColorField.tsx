/** ColorField: a colour as #rrggbb, chosen or typed. */

import { stop } from "./TextField";

export function ColorField({ label, name, value, onChange }: { label: string; name: string; value: string; onChange: (value: string) => void }) {
  const full = /^#[0-9a-f]{6}/i.test(value) ? value.slice(0, 7) : "#000000";
  return (
    <label className="line color">
      <span>{label}</span>
      <input aria-label={name} value={value} spellCheck={false} onChange={(event) => onChange(event.target.value)} onKeyDown={stop} />
      <input type="color" aria-label={`${name}, picker`} value={full} onChange={(event) => onChange(event.target.value)} />
    </label>
  );
}
