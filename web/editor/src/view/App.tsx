/** App: the whole page. */

import { ReactFlowProvider } from "@xyflow/react";
import { Component, lazy, Suspense, type ReactNode } from "react";

import { t, useT } from "../i18n/t";
import { byUse } from "../model/library";
import { command } from "../state/commands";
import { openNamed } from "../state/files";
import { uses } from "../state/library";
import { screen } from "../state/screen";
import { server } from "../state/server";
import { useStore } from "../state/store";
import { active, activeOf, closeTab, workspace } from "../state/workspace";
import { Canvas } from "./canvas/Canvas";
import { ContextMenu } from "./canvas/ContextMenu";
import { SearchBox } from "./canvas/SearchBox";
import { Lightbox } from "./media/Lightbox";
import { ChatPanel } from "./panels/ChatPanel";
import { Dialogs } from "./shell/Dialogs";
import { Rail } from "./shell/Rail";
import { Toasts } from "./shell/Toasts";
import { TopBar } from "./shell/TopBar";
import { Zoom } from "./shell/Zoom";

const Painter = lazy(() => import("./media/Painter"));
const Sheet = lazy(() => import("./sheet/Sheet").then((part) => ({ default: part.Sheet })));

export function App() {
  const sheet = useStore(screen, (now) => now.sheet !== null);
  const chat = useStore(screen, (now) => now.chat);
  const painting = useStore(screen, (now) => now.painting);
  return (
    <Guard>
      <ReactFlowProvider>
        <div className={`app ${chat ? "with-chat" : ""}`}>
          <TopBar />
          <Rail />
          <div className="middle">
            <Canvas />
            <Zoom />
            <Start />
            {sheet && <Suspense><Sheet /></Suspense>}
          </div>
          {chat && <ChatPanel />}
        </div>
        <SearchBox />
        <ContextMenu />
        <Lightbox />
        {painting && <Suspense><Painter painting={painting} /></Suspense>}
        <Dialogs />
        <Toasts />
      </ReactFlowProvider>
    </Guard>
  );
}

/** What an empty canvas offers. */
function Start() {
  const t = useT();
  const empty = useStore(workspace, (space) => {
    const doc = activeOf(space).history.present;
    return !Object.keys(doc.nodes).length && !doc.ui?.notes?.length && !doc.ui?.groups?.length;
  });
  const workflows = useStore(server, (now) => now.workflows);
  const counts = useStore(uses);
  if (!empty) return null;
  const first = ["text_to_image", "any_to_any", "chat", "text_to_audio", "text_to_video"].flatMap((name) => workflows.filter((one) => one.name === name));
  const names = byUse([...first, ...workflows.filter((one) => !first.includes(one) && !one.error)], counts, Date.now()).slice(0, 5).map((one) => one.name);
  return (
    <section className="start" aria-label={t("start")}>
      <h1>{t("start.title")}</h1>
      <p>{t("start.text")}</p>
      <div>
        {names.map((name) => {
          const one = workflows.find((entry) => entry.name === name)!;
          return <button key={name} onClick={() => void openNamed(name)}><b>{one.title}</b><span>{one.description}</span></button>;
        })}
      </div>
      <p className="keys"><kbd>Tab</kbd> {t("cmd.add")} · <kbd>Ctrl+K</kbd> {t("cmd.palette")} · <kbd>?</kbd> {t("cmd.help")} · <button onClick={() => command("workflows")}>{t("start.all")}</button></p>
    </section>
  );
}

/** A fault of a view must not take the work along: it is kept, and can be taken away as a file. */
class Guard extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state = { error: null as Error | null };
  static getDerivedStateFromError(error: Error) {
    return { error };
  }
  override render() {
    if (!this.state.error) return this.props.children;
    return (
      <div className="crash" role="alert">
        <h1>{t("crash")}</h1>
        <p>{t("crash.text")}</p>
        <pre>{this.state.error.message}</pre>
        <button onClick={() => location.reload()}>{t("reload")}</button> <button onClick={() => command("download")}>{t("cmd.download")}</button>{" "}
        <button onClick={() => { closeTab(active().id); this.setState({ error: null }); }}>{t("crash.close")}</button>
      </div>
    );
  }
}
