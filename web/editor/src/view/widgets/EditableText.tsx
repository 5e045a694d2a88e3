/** EditableText: words that become a field on a double click. */

import { useState } from "react";

import { composing } from "../../state/keys";

interface Props {
  value: string;
  label: string;
  className?: string;
  onChange: (value: string) => void;
}

export function EditableText({ value, label, className = "", onChange }: Props) {
  const [editing, setEditing] = useState(false);
  if (!editing) {
    return (
      <span className={className} onDoubleClick={(event) => { event.stopPropagation(); setEditing(true); }}>
        {value}
      </span>
    );
  }
  return (
    <input
      className={`${className} nodrag`} autoFocus aria-label={label} defaultValue={value} maxLength={200} onFocus={(event) => event.currentTarget.select()}
      onKeyDown={(event) => {
        event.stopPropagation();
        if (composing(event)) return;
        if (event.key === "Enter") event.currentTarget.blur();
        if (event.key === "Escape") {
          event.currentTarget.value = value;
          event.currentTarget.blur();
        }
      }}
      onBlur={(event) => {
        setEditing(false);
        if (event.currentTarget.value !== value) onChange(event.currentTarget.value);
      }}
    />
  );
}
