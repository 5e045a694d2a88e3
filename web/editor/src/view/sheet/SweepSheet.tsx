/** SweepSheet: the axes with their values, what the sweep would cost, and the grid of its runs. */

import { useEffect, useId, useMemo, useState } from "react";

import type { Tally } from "../../api/schema";
import { useT } from "../../i18n/t";
import { splitLink } from "../../model/document";
import { axesOf, fieldOf, fields, labelOf, MAX_AXES, MAX_RUNS, setAxes, toggleAxis, type AxisSpec } from "../../model/sweep";
import { showNode } from "../../state/commands";
import { server } from "../../state/server";
import { useStore } from "../../state/store";
import { count, revive, start, sweeps, wish } from "../../state/sweep";
import { active, activeOf, changeWhole, workspace } from "../../state/workspace";
import { Icon } from "../Icon";
import { Grid } from "./SweepGrid";

export function SweepSheet() {
  const t = useT();
  const tab = useStore(workspace, activeOf);
  const catalog = useStore(server, (now) => now.catalog);
  const swept = useStore(sweeps, (all) => all[tab.id]);
  const doc = tab.history.present;
  const axes = axesOf(doc);
  const now = useMemo(() => wish(), [doc, catalog]); // eslint-disable-line react-hooks/exhaustive-deps
  const [tally, setTally] = useState<Tally | undefined>();
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    let gone = false;
    setTally(undefined);
    const timer = setTimeout(() => void count(now).then((found) => gone || setTally(found)), 250);
    return () => {
      gone = true;
      clearTimeout(timer);
    };
  }, [now, swept]);
  useEffect(() => {
    if (swept) void revive(swept);
  }, [swept]);
  const put = (next: AxisSpec[], key: string): void => changeWhole(t("cmd.sweep"), (doc) => setAxes(doc, next), key);
  const offered = useMemo(() => fields(doc, catalog, active().selected).filter((one) => !axes.some((axis) => axis.input === one.input)), [doc, catalog]); // eslint-disable-line react-hooks/exhaustive-deps
  return (
    <div className="sweep">
      <form
        className="axes"
        onSubmit={(event) => {
          event.preventDefault();
          setBusy(true);
          void start(now).finally(() => setBusy(false));
        }}
      >
        {!axes.length && <p className="quiet">{t("sweep.none")}</p>}
        {axes.map((axis, index) => (
          <AxisRow
            key={axis.input} axis={axis} wrong={now.wrong[axis.input]} count={now.axes.find((one) => one.input === axis.input)?.values.length ?? 0}
            onText={(text) => put(axes.map((one, at) => (at === index ? { ...one, text } : one)), `sweep ${axis.input}`)}
            onRemove={() => put(axes.filter((_one, at) => at !== index), "")}
          />
        ))}
        {axes.length < MAX_AXES && (
          <label className="pick">
            <span>{t("sweep.add")}</span>
            <select value="" onChange={(event) => event.target.value && changeWhole(t("cmd.sweep"), (doc) => toggleAxis(doc, catalog, event.target.value))}>
              <option value="" />
              {offered.map((one) => <option key={one.input} value={one.input}>{one.label}</option>)}
            </select>
          </label>
        )}
        <p className="cost" role="status">
          {now.runs > MAX_RUNS ? <span className="bad">{t("sweep.more", { count: MAX_RUNS })}</span> : tally ? (
            <>
              <b>{t("sweep.count", { runs: tally.runs, steps: tally.steps })}</b>
              {tally.shared > 0 && <span className="good">{t("sweep.shared", { shared: tally.shared, steps: tally.steps })}</span>}
              {tally.cached > 0 && <span>{t("sweep.cached", { count: tally.cached })}</span>}
              <span>{t("sweep.computed", { count: tally.steps - tally.shared - tally.cached })}</span>
            </>
          ) : null}
        </p>
        <button className="primary" disabled={busy || !now.runs || now.runs > MAX_RUNS}><Icon name="play" size={14} /> {t("sweep.run")}</button>
      </form>
      {swept && <Grid key={swept.cells[0]?.run} swept={swept} />}
    </div>
  );
}

function AxisRow({ axis, wrong, count, onText, onRemove }: { axis: AxisSpec; wrong: string | undefined; count: number; onText: (text: string) => void; onRemove: () => void }) {
  const t = useT();
  const id = useId();
  const doc = useStore(workspace, activeOf).history.present;
  const catalog = useStore(server, (now) => now.catalog);
  const field = fieldOf(doc, catalog, axis.input);
  const name = labelOf(doc, catalog, axis.input);
  const numeric = field?.kind === "INT" || field?.kind === "FLOAT";
  const options = field?.kind === "COMBO" ? (field.widget?.options ?? []) : field?.kind === "BOOLEAN" ? ["false", "true"] : [];
  const lines = axis.text.split("\n");
  return (
    <fieldset className="axis-row">
      <legend><button type="button" className="line" onClick={() => showNode(splitLink(axis.input)[0])}>{name}</button></legend>
      {options.length ? (
        <div className="options">
          <label><input type="checkbox" checked={options.every((one) => lines.includes(one))} onChange={(event) => onText(event.target.checked ? options.join("\n") : "")} /> {t("sweep.all")}</label>
          {options.map((one) => (
            <label key={one}><input type="checkbox" checked={lines.includes(one)} onChange={(event) => onText(options.filter((other) => (other === one ? event.target.checked : lines.includes(other))).join("\n"))} /> {field?.widget?.said?.[one] ?? one}</label>
          ))}
        </div>
      ) : numeric ? (
        <input value={axis.text} aria-label={t("sweep.axis", { name })} aria-describedby={id} aria-invalid={wrong !== undefined} spellCheck={false} onChange={(event) => onText(event.target.value)} />
      ) : (
        <textarea rows={3} value={axis.text} aria-label={t("sweep.axis", { name })} aria-describedby={id} aria-invalid={wrong !== undefined} onChange={(event) => onText(event.target.value)} />
      )}
      <small id={id} className={wrong ? "bad" : ""}>{wrong ? t("sweep.wrong", { part: wrong.slice(0, 40) }) : wrong === "" ? t("sweep.wrong.empty") : `${t("sweep.values", { count })} · ${t(numeric ? "sweep.how.numbers" : "sweep.how.list")}`}</small>
      <button type="button" className="icon-button" aria-label={t("sweep.axis.remove", { name })} onClick={onRemove}><Icon name="close" size={13} /></button>
    </fieldset>
  );
}
