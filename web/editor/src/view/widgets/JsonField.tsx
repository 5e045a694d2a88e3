/** JsonField: any JSON value as text. What is no JSON yet stays in the field and out of the document. */

import { useState } from "react";

import { dumpJson, parseJson, type Json } from "../../model/json";
import { stop } from "./TextField";

export function JsonField({ label, name, value, onChange }: { label: string; name: string; value: Json | undefined; onChange: (value: Json | undefined) => void }) {
  const [text, setText] = useState<string | null>(null);
  const [bad, setBad] = useState(false);
  const shown = text ?? (value === undefined || value === null ? "" : dumpJson(value));
  return (
    <label className={`line ${bad ? "bad" : ""}`}>
      <span>{label}</span>
      <input
        aria-label={name} aria-invalid={bad} value={shown} spellCheck={false} placeholder="JSON" onKeyDown={stop}
        onChange={(event) => {
          const next = event.target.value;
          setText(next);
          try {
            onChange(next.trim() ? (parseJson(next) as Json) : undefined);
            setBad(false);
          } catch {
            setBad(true);
          }
        }}
        onBlur={() => !bad && setText(null)}
      />
    </label>
  );
}
