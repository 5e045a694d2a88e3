/** SweepGrid: the runs of a sweep as a table; a cell shows what its run made, opens it, or writes its values into the workflow. */

import { useMemo, useState } from "react";

import { get } from "../../api/http";
import type { Run } from "../../api/schema";
import { useT } from "../../i18n/t";
import { layout, shortly } from "../../model/sweep";
import { ENDED, filesOf, fraction, type FileRef, type RunState } from "../../state/run";
import { runs, useRun } from "../../state/runs";
import { loadBack } from "../../state/running";
import { tell } from "../../state/server";
import { useStore } from "../../state/store";
import { stop, use, type Cell, type Swept } from "../../state/sweep";
import { Icon } from "../Icon";
import { kindOf, Media } from "../media/Media";
import { savePicture } from "./picture";

export function Grid({ swept }: { swept: Swept }) {
  const t = useT();
  const states = useStore(runs);
  const found = swept.cells.map((cell) => states[cell.run]);
  const ended = found.filter((state) => state && ENDED.has(state.status)).length;
  const outputs = useMemo(() => outputsOf(found), [ended, found.filter(Boolean).length]); // eslint-disable-line react-hooks/exhaustive-deps
  const [chosen, setChosen] = useState("");
  const node = outputs.includes(chosen) ? chosen : (outputs[0] ?? "");
  const grids = layout(swept.axes);
  const [columns, rows] = [swept.axes[swept.axes.length - 1]!, swept.axes[swept.axes.length - 2]];
  return (
    <div className="swept">
      <div className="buttons">
        <span role="status">{t("sweep.ended", { done: ended, runs: swept.cells.length })}{swept.tally.shared > 0 ? ` · ${t("sweep.shared", { shared: swept.tally.shared, steps: swept.tally.steps })}` : ""}</span>
        <span className="spring" />
        {outputs.length > 1 && <label>{t("sweep.shown")} <select value={node} onChange={(event) => setChosen(event.target.value)}>{outputs.map((one) => <option key={one}>{one}</option>)}</select></label>}
        {ended < swept.cells.length && <button onClick={() => void stop(swept)}><Icon name="stop" size={13} /> {t("sweep.stop")}</button>}
        <button disabled={!ended} onClick={() => void savePicture(swept, node).catch(tell)}><Icon name="save" size={14} /> {t("sweep.picture")}</button>
      </div>
      <div className="grids" tabIndex={0} role="group" aria-label={t("sweep.runs")}>
        {grids.map((grid, index) => (
          <table key={index}>
            {grid.title.length > 0 && <caption>{grid.title.map((value, at) => `${swept.axes[at]!.label}: ${shortly(value)}`).join(" · ")}</caption>}
            <thead><tr>{rows && <th scope="col" className="corner">{rows.label} ↓ <br />{columns.label} →</th>}{grid.columns.map((value, at) => <th key={at} scope="col">{rows ? "" : `${columns.label} `}{shortly(value)}</th>)}</tr></thead>
            <tbody>
              {grid.rows.map((row, at) => (
                <tr key={at}>
                  {row.length > 0 && <th scope="row">{shortly(row[0]!)}</th>}
                  {grid.columns.map((_value, column) => <td key={column}><Shown cell={swept.cells[grid.first + at * grid.columns.length + column]!} node={node} /></td>)}
                </tr>
              ))}
            </tbody>
          </table>
        ))}
      </div>
    </div>
  );
}

/** The nodes whose results can be shown, those with media first. */
export function outputsOf(states: readonly (RunState | undefined)[]): string[] {
  const found = new Map<string, boolean>();
  for (const state of states) {
    for (const [id, { outputs }] of Object.entries(state?.nodes ?? {})) {
      if (outputs && (filesOf(outputs).length || wordsOf(outputs))) found.set(id, found.get(id) || filesOf(outputs).some((file) => kindOf(file) === "image" || kindOf(file) === "video"));
    }
  }
  return [...found].sort(([, a], [, b]) => Number(b) - Number(a)).map(([id]) => id);
}

export function wordsOf(outputs: Record<string, unknown> | undefined): string {
  return Object.values(outputs ?? {}).filter((value) => typeof value === "string" || typeof value === "number" || typeof value === "boolean" || typeof value === "bigint").map(String).join("\n");
}

function Shown({ cell, node }: { cell: Cell; node: string }) {
  const t = useT();
  const state = useRun(cell.run);
  const outputs = state?.nodes[node]?.outputs;
  const files: FileRef[] = filesOf(outputs);
  const values = Object.entries(cell.values).map(([input, value]) => `${input.slice(input.indexOf(".") + 1)} ${shortly(value, 30)}`).join(", ");
  const status = state ? t(`run.${state.status}`, { name: "" }).trim() : t("sweep.gone");
  const open = (): void => void get<Run>("/api/v1/runs/{id}", { id: cell.run }).then(loadBack).catch(tell);
  return (
    <div className={`cell ${state?.status ?? "gone"}`}>
      {files[0] && kindOf(files[0]) === "audio" && <div className="see heard"><Media key={files[0].name} file={files[0]} /></div>}
      <button className="see" aria-label={`${t("sweep.open")}: ${t("sweep.cell", { values, status })}`} title={values} onClick={open}>
        {files[0] ? <Media key={files[0].name} file={files[0]} small /> : wordsOf(outputs) ? <span className="words">{wordsOf(outputs).slice(0, 400)}</span> : <span className="quiet">{state?.errors[0]?.message ?? status}</span>}
        {state && !ENDED.has(state.status) && <progress max={1} value={fraction(state)} aria-label={t("run.progress")} />}
      </button>
      <button className="icon-button keep" aria-label={`${t("sweep.use")}: ${values}`} title={t("sweep.use")} onClick={() => use(cell)}><Icon name="check" size={13} /></button>
    </div>
  );
}
