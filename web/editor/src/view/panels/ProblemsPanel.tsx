/** ProblemsPanel: what is wrong, where, and what to do about it; a press leads to the node. Below it why the last run computed what it did. */

import { t as word, useT } from "../../i18n/t";
import { insertConverter } from "../../model/edit";
import { nodeAt } from "../../model/subgraph";
import { converters } from "../../model/validate";
import { showNode } from "../../state/commands";
import { problems, type Found } from "../../state/problems";
import { server } from "../../state/server";
import { useStore } from "../../state/store";
import { activeOf, change, workspace } from "../../state/workspace";
import { Icon } from "../Icon";
import { WhyList } from "./WhyList";

export function ProblemsPanel() {
  const t = useT();
  const found = useStore(problems);
  return (
    <div className="scroll">
      {found.map((problem, index) => <Entry key={index} problem={problem} />)}
      {!found.length && <p className="quiet"><Icon name="check" size={15} /> {t("problems.none")}</p>}
      <WhyList />
    </div>
  );
}

function Entry({ problem }: { problem: Found }) {
  const t = useT();
  const doc = useStore(workspace, activeOf).history.present;
  const catalog = useStore(server, (now) => now.catalog);
  const node = problem.node ? nodeAt(doc, problem.node) : undefined;
  const ways = problem.kinds ? converters(catalog, ...problem.kinds).slice(0, 3) : [];
  return (
    <article className={`card problem from-${problem.from}`}>
      <button className="open" disabled={!node} onClick={() => problem.node && showNode(problem.node)}>
        {node && <b>{node.title || catalog.of(node).title}{problem.port ? ` · ${problem.port}` : ""}</b>}
        <span>{problem.message}</span>
        {problem.remedy && <small>{problem.remedy}</small>}
      </button>
      {ways.map((way) => (
        <button key={way.type.id} onClick={() => { showNode(problem.node!); change(word("edit.link"), (now) => insertConverter(now, problem.node!.split("/").pop()!, problem.port!, { type: way.type.id, input: way.input, output: way.output }, { x: (node?.ui?.x ?? 0) - 290, y: (node?.ui?.y ?? 0) + 40 })); }}>
          {t("link.convert", { name: way.type.title })}
        </button>
      ))}
    </article>
  );
}
