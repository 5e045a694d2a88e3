/** Tour: five steps for the first visit. */

import { useRef, useState } from "react";

import { useT } from "../../i18n/t";
import { openNamed } from "../../state/files";
import { screen } from "../../state/screen";
import { settings } from "../../state/settings";
import { useFocusTrap } from "./focus";

const STEPS = ["welcome", "canvas", "run", "result", "chat"] as const;

export function Tour() {
  const t = useT();
  const [at, setAt] = useState(0);
  const box = useRef<HTMLDivElement>(null);
  useFocusTrap(box);
  const step = STEPS[at]!;
  const end = (): void => {
    settings.patch({ tourDone: true });
    screen.patch({ dialog: null });
  };
  const example = (): void => {
    end();
    void openNamed("text_to_image");
  };
  return (
    <div className="veil">
      <div ref={box} className="dialog tour" role="dialog" aria-modal="true" aria-label={t(`tour.${step}`)} onKeyDown={(event) => { event.stopPropagation(); if (event.key === "Escape") end(); }}>
        <Picture step={at} />
        <h2>{t(`tour.${step}`)}</h2>
        <p>{t(`tour.${step}.text`)}</p>
        <div className="buttons">
          <span className="steps" aria-label={`${at + 1} / ${STEPS.length}`} role="img">{STEPS.map((one, index) => <i key={one} className={index === at ? "now" : ""} />)}</span>
          <span className="spring" />
          <button onClick={end}>{t("tour.skip")}</button>
          {at > 0 && <button onClick={() => setAt(at - 1)}>{t("previous")}</button>}
          {at < STEPS.length - 1 ? <button className="primary" autoFocus onClick={() => setAt(at + 1)}>{t("next")}</button> : <button className="primary" onClick={example}>{t("tour.example")}</button>}
        </div>
      </div>
    </div>
  );
}

/** A small graph that grows with the steps. */
function Picture({ step }: { step: number }) {
  const colors = ["#9ccc65", "#ff8a65", "#ffa931", "#64b5f6", "#90a4ae"];
  return (
    <svg viewBox="0 0 420 110" aria-hidden="true">
      {colors.slice(0, step + 1).map((color, index) => (
        <g key={color} transform={`translate(${20 + index * 80} ${index % 2 ? 22 : 42})`}>
          {index > 0 && <path d={`M-24 ${index % 2 ? 38 : 8} C -12 ${index % 2 ? 38 : 8}, -12 23, 0 23`} fill="none" stroke={colors[index - 1]} strokeWidth="2.5" />}
          <rect width="56" height="46" rx="7" fill="var(--node)" stroke="var(--line)" />
          <rect width="56" height="14" rx="7" fill={color} opacity="0.35" />
          <circle cx="56" cy="23" r="4" fill={color} />
        </g>
      ))}
    </svg>
  );
}
