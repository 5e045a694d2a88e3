/** WhyList: why each node of the last run was computed again, as the server tells it. */

import { useEffect, useState } from "react";

import { get } from "../../api/http";
import type { Explanation } from "../../api/schema";
import { useT } from "../../i18n/t";
import { dumpJson } from "../../model/json";
import { nodeAt } from "../../model/subgraph";
import { showNode } from "../../state/commands";
import { ENDED } from "../../state/run";
import { useRun } from "../../state/runs";
import { useStore } from "../../state/store";
import { activeOf, workspace } from "../../state/workspace";

type Why = Explanation["nodes"][number]["why"][number];

export function WhyList() {
  const t = useT();
  const tab = useStore(workspace, activeOf);
  const status = useRun(tab.run)?.status;
  const [found, setFound] = useState<Explanation | null>(null);
  const ended = status !== undefined && ENDED.has(status);
  useEffect(() => {
    setFound(null);
    if (!tab.run || !ended) return;
    let gone = false;
    get<Explanation>("/api/v1/runs/{id}/explain", { id: tab.run }).then((one) => gone || setFound(one), () => undefined);
    return () => {
      gone = true;
    };
  }, [tab.run, ended]);
  if (!found?.compared_with) return null;
  const doc = tab.history.present;
  const rows = found.nodes.filter((one) => !one.cached && one.why.length && nodeAt(doc, one.node));
  const cached = found.nodes.filter((one) => one.cached || one.outcome === "not_needed").length;
  return (
    <section className="why">
      <h3>{t("why.title", { number: found.compared_with.number })}</h3>
      {rows.map((one) => (
        <button key={one.node} className="line" onClick={() => showNode(one.node)}><b>{nodeAt(doc, one.node)?.title || one.node}</b> <small>{one.why.map((why) => describe(why, t)).join(", ")}</small></button>
      ))}
      <p className="quiet">{t("why.rest", { count: cached })}</p>
    </section>
  );
}

function describe(why: Why, t: ReturnType<typeof useT>): string {
  const short = (value: unknown): string => (value === undefined || value === null ? "–" : typeof value === "string" ? value : dumpJson(value)).slice(0, 28);
  if (why.what === "literal" || why.what === "link") return `${why.input}: ${short(why.old)} → ${short(why.new)}`;
  return t(`why.${why.what}`, { node: why.node ?? "", input: why.input ?? "" });
}
