/** Sheet: what lies over the canvas and leaves the upper part of it free, or takes all of it. Loaded when it is first asked for. */

import "../../style/sheet.css";

import { useEffect, useRef, useState } from "react";

import { useT } from "../../i18n/t";
import { screen } from "../../state/screen";
import { useStore } from "../../state/store";
import { Icon } from "../Icon";
import { SweepSheet } from "./SweepSheet";

const TITLES = { sweep: "cmd.sweep" } as const;

export function Sheet() {
  const t = useT();
  const sheet = useStore(screen, (now) => now.sheet);
  const [large, setLarge] = useState(false);
  const box = useRef<HTMLElement>(null);
  const kind = sheet?.kind;
  useEffect(() => {
    if (kind) box.current?.querySelector<HTMLElement>("header button")?.focus({ preventScroll: true });
  }, [kind]);
  if (!sheet) return null;
  const close = (): void => {
    screen.patch({ sheet: null });
    document.querySelector<HTMLElement>(".react-flow")?.focus();
  };
  return (
    <section
      ref={box} className={`sheet ${large ? "large" : ""}`} aria-label={t(TITLES[sheet.kind as "sweep"])}
      onKeyDown={(event) => {
        if (event.key !== "Escape" || event.defaultPrevented) return;
        event.stopPropagation();
        close();
      }}
    >
      <header>
        <h2>{t(TITLES[sheet.kind as "sweep"])}</h2>
        <span className="spring" />
        <button className="icon-button" aria-label={t(large ? "sheet.smaller" : "sheet.larger")} aria-pressed={large} onClick={() => setLarge(!large)}><Icon name="expand" size={15} /></button>
        <button className="icon-button" aria-label={t("close")} onClick={close}><Icon name="close" size={15} /></button>
      </header>
      <SweepSheet />
    </section>
  );
}
