/** RunsPanel: what runs, what waits, what has been: with thumbnails, and every run can be had back. */

import { useEffect, useState } from "react";

import { get } from "../../api/http";
import type { Queue, Run } from "../../api/schema";
import { useT } from "../../i18n/t";
import { cancel, hold, loadBack, prioritise } from "../../state/running";
import { command } from "../../state/commands";
import { compareRun } from "../../state/compare";
import { ENDED, filesOf, fraction, type FileRef } from "../../state/run";
import { useRun } from "../../state/runs";
import { queueOf, useLive } from "../../state/live";
import { screen } from "../../state/screen";
import { learnRuns, server } from "../../state/server";
import { useStore } from "../../state/store";
import { Icon } from "../Icon";
import { kindOf, Media } from "../media/Media";

/** What others change of the order is not pushed. */
const LOOK_MS = 15_000;

export function RunsPanel() {
  const t = useT();
  const history = useStore(server, (now) => now.history);
  const [queue, setQueue] = useState<Queue>({ held: false, runs: [] });
  const pushed = useLive(queueOf);
  useEffect(() => {
    const look = (): void => {
      void learnRuns();
      get<Queue>("/api/v1/queue").then(setQueue, () => undefined);
    };
    look();
    const timer = setInterval(look, LOOK_MS);
    return () => clearInterval(timer);
  }, [pushed]);
  const place = new Map(queue.runs.map((run, index) => [String(run["id"]), index]));
  const open = history.filter((run) => !ENDED.has(run.status)).sort((a, b) => (place.get(a.id) ?? 0) - (place.get(b.id) ?? 0));
  const past = history.filter((run) => ENDED.has(run.status));
  return (
    <>
      <div className="buttons">
        <button aria-pressed={queue.held} title={t("queue.hold.why")} onClick={() => void hold(!queue.held).then(() => setQueue({ ...queue, held: !queue.held }))}>{t(queue.held ? "queue.release" : "queue.hold")}</button>
        {open.length > 0 && <button onClick={() => command("cancel.all")}><Icon name="stop" size={13} /> {t("cmd.cancel.all")}</button>}
      </div>
      <div className="scroll">
        {open.length > 0 && <section><h3>{t("runs.now")}</h3>{open.map((run) => <Entry key={run.id} run={run} />)}</section>}
        {past.length > 0 && <section><h3>{t("runs.past")}</h3>{past.map((run) => <Entry key={run.id} run={run} />)}</section>}
        {!history.length && <p className="quiet">{t("runs.none")}</p>}
      </div>
    </>
  );
}

function Entry({ run }: { run: Run }) {
  const t = useT();
  const state = useRun(run.id);
  const status = state?.status ?? run.status;
  const files: FileRef[] = Object.values(run.result).flatMap((outputs) => filesOf(outputs));
  const pictures = files.filter((file) => kindOf(file) !== "other" && kindOf(file) !== "text").slice(0, 4);
  const seconds = run.finished && run.started ? run.finished - run.started : undefined;
  const share = state ? fraction(state) : 0;
  return (
    <article className={`card run ${status}`}>
      <button className="open" title={t("runs.load")} onClick={() => void loadBack(run)}>
        <b>{run.name || t("untitled")} <small>#{run.number}</small></b>
        <small><i className={`state ${status}`} /> {t(`run.${status}` as "run.succeeded", { name: "" })}{seconds !== undefined ? ` · ${seconds.toFixed(1)} s` : ""} · {new Date(run.created * 1000).toLocaleTimeString()}</small>
        {run.errors[0] && <span className="bad">{run.errors[0].message}</span>}
        {!ENDED.has(status) && <progress max={1} value={share} aria-label={t("run.progress")} />}
      </button>
      {pictures.length > 0 && <div className="thumbs">{pictures.map((file) => <button key={file.name} className="thumb" aria-label={file.name} onClick={() => screen.patch({ viewing: { files: pictures, index: pictures.indexOf(file) } })}><Media file={file} small /></button>)}</div>}
      {ENDED.has(status) && <button className="icon-button" title={t("compare.runs")} aria-label={`${t("compare.runs")} ${run.name} #${run.number}`} onClick={() => compareRun(run)}><Icon name="compare" size={14} /></button>}
      {!ENDED.has(status) && <button className="icon-button" title={t("queue.first")} aria-label={`${t("queue.first")} ${run.name}`} onClick={() => void prioritise(run.id, run.priority + 1).then(learnRuns)}>↑</button>}
      {!ENDED.has(status) && <button className="icon-button" aria-label={`${t("cmd.cancel")} ${run.name}`} onClick={() => void cancel(run.id)}><Icon name="close" size={14} /></button>}
    </article>
  );
}
