/** Timeline: when each step of the last run waited and computed; what ran side by side lies side by side. */

import { useEffect, useState } from "react";

import { get } from "../../api/http";
import { useT } from "../../i18n/t";
import { showNode } from "../../state/commands";
import { ENDED, ownerOf } from "../../state/run";
import { useRun } from "../../state/runs";
import { useStore } from "../../state/store";
import { activeOf, workspace } from "../../state/workspace";

interface Stretch {
  ph: string;
  cat?: string;
  name: string;
  tid: number;
  ts: number;
  dur?: number;
  args?: Record<string, unknown>;
}
const COLORS: Record<string, string> = { steps: "var(--accent)", waiting: "var(--line)", memory: "var(--warn)" };

export function Timeline() {
  const t = useT();
  const { run } = useStore(workspace, activeOf);
  const status = useRun(run)?.status;
  const [all, setAll] = useState<Stretch[]>([]);
  const ended = status !== undefined && ENDED.has(status);
  useEffect(() => {
    setAll([]);
    if (!run || !ended) return;
    let gone = false;
    get<{ traceEvents: Stretch[] }>("/api/v1/runs/{id}/timeline", { id: run }).then((found) => gone || setAll(found.traceEvents), () => undefined);
    return () => {
      gone = true;
    };
  }, [run, ended]);
  const bars = all.filter((one) => one.ph === "X" && one.cat !== "run" && one.cat! in COLORS).slice(0, 600);
  if (!bars.length) return null;
  const end = Math.max(...bars.map((one) => one.ts + (one.dur ?? 0)), 1);
  const rows = [...new Set(bars.map((one) => one.tid))];
  const name = (row: number): string => String(all.find((one) => one.ph === "M" && one.name === "thread_name" && one.tid === row)?.args?.["name"] ?? row);
  return (
    <section>
      <h3>{t("timeline")} · {(end / 1e6).toFixed(2)} s</h3>
      <div className="timeline">
        {rows.map((row) => (
          <div key={row}>
            <small>{name(row)}</small>
            <span>
              {bars.filter((one) => one.tid === row).map((one, index) => (
                <button
                  key={index} aria-label={`${one.name} ${((one.dur ?? 0) / 1000).toFixed(1)} ms`} title={`${one.name} · ${((one.dur ?? 0) / 1000).toFixed(1)} ms`} className={one.args?.["critical"] ? "critical" : ""}
                  style={{ left: `${(one.ts / end) * 100}%`, width: `max(2px, ${((one.dur ?? 0) / end) * 100}%)`, background: COLORS[one.cat!] }} onClick={() => showNode(ownerOf(one.name))}
                />
              ))}
            </span>
          </div>
        ))}
      </div>
    </section>
  );
}
