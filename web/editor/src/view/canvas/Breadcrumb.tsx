/** Breadcrumb: where one is when a subgraph was entered, and the way up. */

import { useT } from "../../i18n/t";
import { nodeAt } from "../../model/subgraph";
import { command } from "../../state/commands";
import { useStore } from "../../state/store";
import { goTo } from "../../state/subgraphs";
import { activeOf, titleOf, workspace } from "../../state/workspace";
import { server } from "../../state/server";
import { Icon } from "../Icon";

export function Breadcrumb() {
  const t = useT();
  const tab = useStore(workspace, activeOf);
  const catalog = useStore(server, (now) => now.catalog);
  if (!tab.inside.length) return null;
  const name = (depth: number): string => {
    const node = nodeAt(tab.history.present, tab.inside.slice(0, depth).join("/"));
    return node ? node.title || catalog.of(node).title : "?";
  };
  return (
    <nav className="crumbs" aria-label={t("sub.where")}>
      <button onClick={() => goTo([])}>{titleOf(tab) || t("untitled")}</button>
      {tab.inside.map((id, index) => (
        <span key={`${index} ${id}`}>
          <Icon name="right" size={13} />
          {index + 1 < tab.inside.length
            ? <button onClick={() => goTo(tab.inside.slice(0, index + 1))}>{name(index + 1)}</button>
            : <b aria-current="location">{name(index + 1)}</b>}
        </span>
      ))}
      <button className="up" onClick={() => command("sub.leave")} title={`${t("cmd.sub.leave")} (Esc)`} aria-label={t("cmd.sub.leave")}><Icon name="close" size={13} /></button>
      <button onClick={() => command("sub.ports")} title={t("cmd.sub.ports")}>{t("sub.ports")}</button>
    </nav>
  );
}
