/** Rail: the buttons at the left edge, and the panel that they open. */

import { useT, type Word } from "../../i18n/t";
import { problems } from "../../state/problems";
import { screen, togglePanel, type Panel } from "../../state/screen";
import { useStore } from "../../state/store";
import { Icon, type IconName } from "../Icon";
import { ModelsPanel } from "../panels/ModelsPanel";
import { NodesPanel } from "../panels/NodesPanel";
import { ProblemsPanel } from "../panels/ProblemsPanel";
import { RunsPanel } from "../panels/RunsPanel";
import { WorkflowsPanel } from "../panels/WorkflowsPanel";

const PANELS: { panel: Panel; icon: IconName; word: Word; key: string }[] = [
  { panel: "workflows", icon: "flows", word: "panel.workflows", key: "W" },
  { panel: "nodes", icon: "nodes", word: "panel.nodes", key: "N" },
  { panel: "runs", icon: "runs", word: "panel.runs", key: "Q" },
  { panel: "models", icon: "models", word: "panel.models", key: "M" },
  { panel: "problems", icon: "warn", word: "panel.problems", key: "E" },
];
const VIEWS: Record<Panel, () => React.ReactNode> = { workflows: WorkflowsPanel, nodes: NodesPanel, runs: RunsPanel, models: ModelsPanel, problems: ProblemsPanel };

export function Rail() {
  const t = useT();
  const { panel, chat } = useStore(screen);
  const count = useStore(problems).length;
  const View = panel && VIEWS[panel];
  return (
    <>
      <nav className="rail" aria-label={t("rail")}>
        {PANELS.map((one) => (
          <button key={one.panel} aria-pressed={panel === one.panel} aria-label={t(one.word)} title={`${t(one.word)} (${one.key})`} onClick={() => togglePanel(one.panel)}>
            <Icon name={one.icon} size={20} />
            {one.panel === "problems" && count > 0 && <i className="dot" />}
          </button>
        ))}
        <button aria-pressed={chat} aria-label={t("panel.chat")} title={`${t("panel.chat")} (C)`} onClick={() => screen.patch({ chat: !chat })}><Icon name="chat" size={20} /></button>
        <span className="spring" />
        <button aria-label={t("cmd.help")} title={`${t("cmd.help")} (?)`} onClick={() => screen.patch({ dialog: "help" })}><Icon name="help" size={20} /></button>
        <button aria-label={t("cmd.settings")} title={`${t("cmd.settings")} (Ctrl+,)`} onClick={() => screen.patch({ dialog: "settings" })}><Icon name="gear" size={20} /></button>
      </nav>
      {View && (
        <aside className="panel" aria-label={t(`panel.${panel}` as Word)}>
          <header><h2>{t(`panel.${panel}` as Word)}</h2><button className="icon-button" aria-label={t("close")} onClick={() => screen.patch({ panel: null })}><Icon name="close" size={15} /></button></header>
          <View />
        </aside>
      )}
    </>
  );
}
