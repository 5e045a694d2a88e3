/** EditableText: words that become a field on a double click, or when a command asks for it. */

import { useEffect, useState } from "react";

import { composing } from "../../state/keys";
import { screen } from "../../state/screen";
import { useStore } from "../../state/store";

interface Props {
  value: string;
  label: string;
  className?: string;
  /** of the part of the workflow whose words these are: the command that edits them finds them by it */
  part?: string;
  onChange: (value: string) => void;
}

export function EditableText({ value, label, className = "", part, onChange }: Props) {
  const [editing, setEditing] = useEditing(part);
  if (!editing) {
    return (
      <span className={className} data-words={part} onDoubleClick={(event) => { event.stopPropagation(); setEditing(true); }}>
        {value}
      </span>
    );
  }
  return (
    <input
      className={`${className} nodrag`} ref={focusNow} aria-label={label} defaultValue={value} maxLength={200} onFocus={(event) => event.currentTarget.select()}
      onKeyDown={(event) => {
        event.stopPropagation();
        if (composing(event)) return;
        if (event.key === "Enter") leave(event.currentTarget);
        if (event.key === "Escape") {
          event.currentTarget.value = value;
          leave(event.currentTarget);
        }
      }}
      onBlur={(event) => {
        setEditing(false);
        if (event.currentTarget.value !== value) onChange(event.currentTarget.value);
      }}
    />
  );
}

/** Are these words a field now? Also by the command, once. */
export function useEditing(part: string | undefined): [boolean, (editing: boolean) => void] {
  const asked = useStore(screen, (now) => part !== undefined && now.editing === part);
  const [editing, setEditing] = useState(false);
  useEffect(() => {
    if (!asked) return;
    setEditing(true);
    screen.patch({ editing: null });
  }, [asked]);
  return [editing, setEditing];
}

/** A browser that scrolls to what has the focus would move the canvas under its nodes. */
export function focusNow(field: HTMLElement | null): void {
  field?.focus({ preventScroll: true });
}

/** Out of the field, and on to its node, where the keyboard was before. */
export function leave(field: HTMLElement): void {
  const node = field.closest<HTMLElement>(".react-flow__node");
  if (node) focusNow(node);
  else field.blur();
}
