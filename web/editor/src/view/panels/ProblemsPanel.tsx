/** ProblemsPanel: what is wrong, where, and what to do about it; a press leads to the node. Below it why the last run computed what it did. */

import { get } from "../../api/http";
import { useEffect, useState } from "react";

import { t as word, useT } from "../../i18n/t";
import { toDoc, type Doc } from "../../model/document";
import { reasons, type Change } from "../../model/changes";
import { insertConverter } from "../../model/edit";
import { dumpJson } from "../../model/json";
import { converters } from "../../model/validate";
import { showNode } from "../../state/commands";
import { problems, type Found } from "../../state/problems";
import { useRun } from "../../state/runs";
import { server } from "../../state/server";
import { useStore } from "../../state/store";
import { activeOf, change, workspace } from "../../state/workspace";
import { Icon } from "../Icon";

export function ProblemsPanel() {
  const t = useT();
  const found = useStore(problems);
  return (
    <div className="scroll">
      {found.map((problem, index) => <Entry key={index} problem={problem} />)}
      {!found.length && <p className="quiet"><Icon name="check" size={15} /> {t("problems.none")}</p>}
      <Why />
    </div>
  );
}

function Entry({ problem }: { problem: Found }) {
  const t = useT();
  const doc = useStore(workspace, activeOf).history.present;
  const catalog = useStore(server, (now) => now.catalog);
  const node = problem.node ? doc.nodes[problem.node] : undefined;
  const ways = problem.kinds ? converters(catalog, ...problem.kinds).slice(0, 3) : [];
  return (
    <article className={`card problem from-${problem.from}`}>
      <button className="open" disabled={!node} onClick={() => problem.node && showNode(problem.node)}>
        {node && <b>{node.title || catalog.of(node).title}{problem.port ? ` · ${problem.port}` : ""}</b>}
        <span>{problem.message}</span>
        {problem.remedy && <small>{problem.remedy}</small>}
      </button>
      {ways.map((way) => (
        <button key={way.type.id} onClick={() => change(word("edit.link"), (now) => insertConverter(now, problem.node!, problem.port!, { type: way.type.id, input: way.input, output: way.output }, { x: (node?.ui?.x ?? 0) - 290, y: (node?.ui?.y ?? 0) + 40 }))}>
          {t("link.convert", { name: way.type.title })}
        </button>
      ))}
    </article>
  );
}

/** Of the last run and the one before of the same workflow: which nodes were computed, and the change that made them so. */
function Why() {
  const t = useT();
  const tab = useStore(workspace, activeOf);
  const state = useRun(tab.run);
  const history = useStore(server, (now) => now.history);
  const [docs, setDocs] = useState<[Doc, Doc] | null>(null);
  const before = history.find((run) => run.name === state?.name && run.id !== state?.id && run.created * 1000 < (state?.started ?? 0));
  useEffect(() => {
    setDocs(null);
    if (!tab.run || !before) return;
    let gone = false;
    Promise.all([before.id, tab.run].map((id) => get<unknown>("/api/v1/runs/{id}/document", { id }))).then(
      ([old, now]) => gone || setDocs([toDoc(old), toDoc(now)]),
      () => undefined,
    );
    return () => {
      gone = true;
    };
  }, [tab.run, before?.id]); // eslint-disable-line react-hooks/exhaustive-deps
  if (!state || !docs) return null;
  const rows = Object.entries(state.nodes).filter(([id, node]) => node.status === "done" && node.ms !== undefined && id in docs[1].nodes).map(([id]) => [id, reasons(docs[0], docs[1], id)] as const);
  const computed = rows.filter(([, why]) => why.length);
  if (!computed.length) return null;
  return (
    <section className="why">
      <h3>{t("why.title", { number: before?.number ?? 0 })}</h3>
      {computed.slice(0, 40).map(([id, why]) => (
        <button key={id} className="line" onClick={() => showNode(id)}><b>{docs[1].nodes[id]?.title || id}</b> <small>{why.slice(0, 3).map(describe).join(", ")}</small></button>
      ))}
    </section>
  );
}

function describe(change: Change): string {
  const short = (value: unknown): string => (value === undefined ? "–" : String(typeof value === "string" ? value : dumpJson(value)).slice(0, 24));
  return change.port ? `${change.node}.${change.port}: ${short(change.before)} → ${short(change.after)}` : `${change.node} ${change.what}`;
}
