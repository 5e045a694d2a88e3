/** TopBar: the tabs, and the run: start, stop, how far it is. */

import { useEffect, useRef, useState } from "react";

import type { Outlook } from "../../api/schema";
import { useT } from "../../i18n/t";
import { command, close, newWorkflow } from "../../state/commands";
import { problems } from "../../state/problems";
import { ENDED, fraction } from "../../state/run";
import { runs, useRun } from "../../state/runs";
import { outlook, sending } from "../../state/running";
import { screen } from "../../state/screen";
import { server } from "../../state/server";
import { settings } from "../../state/settings";
import { useStore } from "../../state/store";
import { activeOf, isDirty, titleOf, workspace } from "../../state/workspace";
import { Icon } from "../Icon";

export function TopBar() {
  return (
    <header className="top">
      <a className="brand" href="/status" title="Anyloom"><img src="/static/icon.svg" alt="Anyloom" width={24} height={24} /></a>
      <Tabs />
      <RunButtons />
    </header>
  );
}

function Tabs() {
  const t = useT();
  const { tabs, active } = useStore(workspace);
  const bar = useRef<HTMLElement>(null);
  useEffect(() => {
    bar.current?.querySelector(".tab.now")?.scrollIntoView?.({ block: "nearest", inline: "nearest" });
  }, [active, tabs.length]);
  return (
    <nav ref={bar} className="tabs" aria-label={t("tabs")} onWheel={(event) => (event.currentTarget.scrollLeft += event.deltaX || event.deltaY)}>
      {tabs.map((tab) => (
        <div key={tab.id} className={tab.id === active ? "tab now" : "tab"}>
          <button aria-current={tab.id === active ? "page" : undefined} title={tab.name ?? titleOf(tab)} onClick={() => workspace.patch({ active: tab.id })} onAuxClick={(event) => event.button === 1 && close(tab.id)}>
            {isDirty(tab) && <i className="unsaved" title={t("tab.unsaved")} role="img" aria-label={t("tab.unsaved")} />}
            {titleOf(tab) || t("untitled")}
          </button>
          <button className="shut" aria-label={`${t("close")} ${titleOf(tab)}`} onClick={() => close(tab.id)}><Icon name="close" size={12} /></button>
        </div>
      ))}
      <button className="icon-button" aria-label={t("cmd.new")} title={`${t("cmd.new")} (Alt+N)`} onClick={newWorkflow}><Icon name="plus" size={16} /></button>
    </nav>
  );
}

function RunButtons() {
  const t = useT();
  const tab = useStore(workspace, activeOf);
  const state = useRun(tab.run);
  const link = useStore(server, (now) => now.link);
  const waiting = useStore(runs, (all) => Object.values(all).filter((one) => !ENDED.has(one.status)).length);
  const busy = useStore(sending) > 0;
  const found = useStore(problems);
  const onChange = useStore(settings, (now) => now.runOnChange);
  const [forecast, setForecast] = useState<Outlook | null>(null);
  const paused = Object.values(state?.nodes ?? {}).some((node) => node.status === "paused");
  const running = state && !ENDED.has(state.status);
  const share = state ? fraction(state) : 0;
  const serious = found.length;
  return (
    <div className="runbar">
      {link !== "open" && <span className="offline" role="status">{t(link === "connecting" ? "server.connecting" : "server.lost")}</span>}
      <span className={`outcome ${state?.status ?? ""}`} role="status" data-run={state?.id}>
        {state && (running ? t("run.share", { share: Math.round(share * 100) }) : `${t(`run.${state.status as "succeeded"}`, { name: "" })}${state.seconds !== undefined ? ` · ${state.seconds.toFixed(1)} s` : ""}`)}
      </span>
      {serious > 0 && <button className="count bad" onClick={() => screen.patch({ panel: "problems" })} title={t("problems.show")}><Icon name="warn" size={15} /> {serious}</button>}
      {waiting > 0 && <button className="count" title={t("panel.runs")} onClick={() => screen.patch({ panel: "runs" })}><Icon name="runs" size={15} /> {waiting}</button>}
      <label className="auto" title={t("run.on.change.why")}><input type="checkbox" checked={onChange} onChange={(event) => settings.patch({ runOnChange: event.target.checked })} /> {t("run.on.change")}</label>
      {running && <button className="stop" onClick={() => command("cancel")} title="Ctrl+Alt+Enter"><Icon name="stop" size={14} /> {t("cmd.cancel")}</button>}
      {paused && <button className="count" onClick={() => command("continue")} title="F8"><Icon name="play" size={14} /> {t("cmd.continue")}</button>}
      {forecast && <span className={`forecast ${forecast.fits}`} role="status">{forecast.summary}</span>}
      <button
        className="run" disabled={link !== "open" || busy} onClick={() => command("run")} title="Ctrl+Enter"
        onPointerEnter={() => void outlook().then((found) => setForecast(found ?? null))} onPointerLeave={() => setForecast(null)}
      ><Icon name="play" size={15} /> {t("cmd.run")}</button>
      {running && <i className="overall" style={{ transform: `scaleX(${Math.max(0.02, share)})` }} role="progressbar" aria-label={t("run.progress")} aria-valuenow={Math.round(share * 100)} aria-valuemin={0} aria-valuemax={100} />}
    </div>
  );
}
