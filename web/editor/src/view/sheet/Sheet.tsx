/** Sheet: what lies over the canvas and leaves the upper part of it free, or takes all of it. Loaded when it is first asked for. */

import "../../style/sheet.css";

import { useEffect, useRef, useState } from "react";

import { useT } from "../../i18n/t";
import { screen } from "../../state/screen";
import { useStore } from "../../state/store";
import { Icon } from "../Icon";
import { CompareSheet } from "./CompareSheet";
import { SweepSheet } from "./SweepSheet";

const TITLES = { sweep: "cmd.sweep", compare: "cmd.compare" } as const;

function close(): void {
  screen.patch({ sheet: null });
  document.querySelector<HTMLElement>(".react-flow")?.focus();
}

export function Sheet() {
  const t = useT();
  const sheet = useStore(screen, (now) => now.sheet);
  const [large, setLarge] = useState(false);
  const box = useRef<HTMLElement>(null);
  const kind = sheet?.kind;
  useEffect(() => {
    if (kind) box.current?.querySelector<HTMLElement>("header button")?.focus({ preventScroll: true });
  }, [kind]);
  useEffect(() => {
    const key = (event: KeyboardEvent): void => {
      const { dialog, viewing, menu, search } = screen.get();
      const here = event.target === document.body || box.current?.contains(event.target as Node);
      if (event.key === "Escape" && here && !event.defaultPrevented && !dialog && !viewing && !menu && !search) close();
    };
    addEventListener("keydown", key);
    return () => removeEventListener("keydown", key);
  }, []);
  if (!sheet) return null;
  return (
    <section ref={box} className={`drawer ${large ? "large" : ""}`} aria-label={t(TITLES[sheet.kind])}>
      <header>
        <h2>{t(TITLES[sheet.kind])}</h2>
        <span className="spring" />
        <button className="icon-button" aria-label={t(large ? "sheet.smaller" : "sheet.larger")} aria-pressed={large} onClick={() => setLarge(!large)}><Icon name="expand" size={15} /></button>
        <button className="icon-button" aria-label={t("close")} onClick={close}><Icon name="close" size={15} /></button>
      </header>
      {sheet.kind === "sweep" ? <SweepSheet /> : <CompareSheet before={sheet.before} after={sheet.after} />}
    </section>
  );
}
