/** ComboField: one of a list of words, with a search when the list is long. */

import { useEffect, useId, useRef, useState } from "react";
import { createPortal } from "react-dom";

import { useT } from "../../i18n/t";
import { composing } from "../../state/keys";

interface Props {
  label: string;
  name: string;
  value: string;
  options: readonly string[];
  onChange: (value: string) => void;
  /** others than these may be entered */
  free?: boolean;
  /** what options are called, where that is not what they are */
  said?: Readonly<Record<string, string>>;
}

export function ComboField({ label, name, value, options, onChange, free, said = {} }: Props) {
  const [open, setOpen] = useState(false);
  const button = useRef<HTMLButtonElement>(null);
  const known = options.includes(value) || free;
  return (
    <>
      <button ref={button} className={`combo ${known ? "" : "strange"}`} aria-haspopup="listbox" aria-expanded={open} aria-label={`${name}: ${said[value] ?? value}`} onClick={() => setOpen(!open)}>
        <span>{label}</span>
        <b>{(said[value] ?? value) || "–"}</b>
      </button>
      {open && <Options {...{ name, value, options, free, said }} anchor={button.current!} onPick={(word) => { setOpen(false); button.current?.focus(); if (word !== undefined) onChange(word); }} />}
    </>
  );
}

function Options({ name, value, options, anchor, onPick, free, said }: Required<Pick<Props, "said">> & Pick<Props, "name" | "value" | "options" | "free"> & { anchor: HTMLElement; onPick: (word?: string) => void }) {
  const t = useT();
  const id = useId();
  const [text, setText] = useState("");
  const found = options.filter((option) => `${option}\n${said[option] ?? ""}`.toLowerCase().includes(text.toLowerCase()));
  const list = free && text && !found.includes(text) ? [text, ...found] : found;
  const [at, setAt] = useState(Math.max(0, options.indexOf(value)));
  const box = anchor.getBoundingClientRect();
  const panel = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const away = (event: PointerEvent): void => {
      if (!panel.current?.contains(event.target as Node)) onPick();
    };
    addEventListener("pointerdown", away, true);
    return () => removeEventListener("pointerdown", away, true);
  });
  useEffect(() => {
    panel.current?.querySelector("[aria-selected=true]")?.scrollIntoView?.({ block: "nearest" });
  }, [at]);
  const below = box.bottom + 300 < innerHeight || box.top < 300;
  return createPortal(
    <div ref={panel} className="options" style={{ left: Math.min(box.left, innerWidth - 260), width: Math.max(box.width, 200), ...(below ? { top: box.bottom + 4 } : { bottom: innerHeight - box.top + 4 }) }}>
      <input
        autoFocus placeholder={t("search")} value={text} role="combobox" aria-label={`${name}, ${t("search")}`} aria-expanded="true" aria-controls={id} aria-activedescendant={`${id}-${at}`}
        className={options.length < 7 && !free ? "unseen" : ""}
        onChange={(event) => { setText(event.target.value); setAt(0); }}
        onKeyDown={(event) => {
          event.stopPropagation();
          if (composing(event)) return;
          if (event.key === "ArrowDown") setAt(Math.min(at + 1, list.length - 1));
          else if (event.key === "ArrowUp") setAt(Math.max(at - 1, 0));
          else if (event.key === "Enter") onPick(list[at]);
          else if (event.key === "Escape" || event.key === "Tab") onPick();
          else return;
          event.preventDefault();
        }}
      />
      <div role="listbox" id={id} aria-label={name} tabIndex={-1}>
        {list.map((option, index) => (
          <div key={option} id={`${id}-${index}`} role="option" aria-selected={index === at} className={option === value ? "now" : ""} onPointerMove={() => setAt(index)} onClick={() => onPick(option)}>
            {(said[option] ?? option) || "–"}
          </div>
        ))}
        {!list.length && <p className="quiet">{t("search.none")}</p>}
      </div>
    </div>,
    document.body,
  );
}
