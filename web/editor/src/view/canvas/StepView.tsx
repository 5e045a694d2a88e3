/** StepView: one node on the canvas: head, sockets, fields, result. Far away only a coloured plate with its name. */

import { NodeResizeControl, useStore as useFlow, type NodeProps } from "@xyflow/react";
import { memo } from "react";

import { useT } from "../../i18n/t";
import { setNode, setUi, toggleFlag, toggleMode } from "../../model/edit";
import type { DocNode } from "../../model/document";
import { promotedAs, renamePort } from "../../model/expose";
import { labelIn, labelOf, type Input, type NodeType, type Output } from "../../model/nodetype";
import { ROW } from "../../model/shape";
import { useLeftOut, useNodeProblems } from "../../state/problems";
import type { NodeRun } from "../../state/run";
import { useNodeRun } from "../../state/runs";
import { server } from "../../state/server";
import { useStore } from "../../state/store";
import { enter, togglePromoted } from "../../state/subgraphs";
import { activeOf, change, changeWhole, workspace } from "../../state/workspace";
import { Result } from "../media/Result";
import { Field } from "../widgets/Field";
import { Icon } from "../Icon";
import { EditableText } from "../widgets/EditableText";
import { Arrived } from "./Arrived";
import { isFar, type StepNode } from "./flow";
import { Socket } from "./Socket";
import { hueOf } from "./hue";

export const StepView = memo(function StepView({ id, data, selected }: NodeProps<StepNode>) {
  const far = useFlow((flow) => isFar(flow.transform[2], flow.nodes.length));
  const tab = useStore(workspace, activeOf).run;
  const run = useNodeRun(tab, id);
  const within = useStore(workspace, (space) => activeOf(space).inside.length > 0);
  const problems = useNodeProblems(id);
  const out = useLeftOut(id);
  const t = useT();
  const { node, type, shape } = data;
  const without = out && t(`node.left.out.${out.why}`, { node: out.title, port: labelIn(type, out.port) });
  const status = run?.status ?? "";
  const look = [
    "node", far ? "far" : "", selected ? "selected" : "", node.mode ?? "", node.ui?.collapsed ? "collapsed" : "",
    status, type.subgraph ? "instance" : "", type.border ? "border" : "", type.missing ? "missing" : "", problems.length || run?.error ? "wrong" : "", out ? "left-out" : "",
  ].join(" ");
  const style = { width: shape.width, height: shape.height, "--hue": hueOf(type.category), ...(node.ui?.color ? { "--tint": node.ui.color } : {}) } as React.CSSProperties;
  const title = node.title || type.title;
  if (far) {
    return (
      <div className={look} style={style} data-node={id}>
        <div className="node-head"><span className="node-title">{title}</span></div>
        <Progress run={run} />
      </div>
    );
  }
  return (
    <div className={look} style={style} data-node={id} onDoubleClick={type.subgraph ? (event) => { if (!(event.target as HTMLElement).closest(".field, .result, button, input")) enter(id); } : undefined}>
      <Head id={id} data={data} run={run} problem={problems[0]?.message ?? run?.error?.message} without={without} />
      <Progress run={run} />
      {node.ui?.collapsed ? <Closed id={id} data={data} /> : (
        <div className="rows">
          {shape.rows.map((row, index) => (
            <div className="row" key={index} style={{ height: row.height }}>
              {row.input && !row.more && (
                <Socket node={id} port={row.input.name} side="input" kind={row.input.kind} title={labelOf(row.input)} list={row.input.as_list} quiet={row.field && !node.links?.[row.input.name]} />
              )}
              {row.more && row.input && <Socket node={id} port="+" side="input" kind={row.input.kind} title={`${labelOf(row.input)} +`} list />}
              {row.input && !row.field && <span className={`port ${row.more ? "more" : ""} ${row.input.required ? "" : "optional"}`}>{row.more ? `${labelOf(row.input)} +` : <PortName type={type} side="outputs" port={row.input} />}</span>}
              {row.input && row.field && <Field id={id} node={node} input={row.input} wrong={problems.some((problem) => problem.port === row.input!.name)} />}
              {within && row.input && row.field && !type.border && <Promote id={id} node={node} input={row.input} />}
              {row.output && <span className="port out"><PortName type={type} side="inputs" port={row.output} /></span>}
              {row.output && <Socket node={id} port={row.output.name} side="output" kind={row.output.kind} title={labelOf(row.output)} list={row.output.as_list} />}
            </div>
          ))}
          {shape.media > 0 && <Result id={id} tab={tab} run={run} none={without} height={shape.height - heightOfRows(data)} />}
        </div>
      )}
      {tab && run?.status === "paused" && run.arrived && <Arrived id={id} title={title} type={type} run={tab} arrived={run.arrived} />}
      {selected && !node.ui?.collapsed && (
        <NodeResizeControl
          className="grip" position="bottom-right" minWidth={180} minHeight={60}
          onResizeEnd={(_event, { width, height }) => change("resize", (doc) => setUi(doc, id, { width: Math.round(width), height: Math.round(height) }))}
        />
      )}
    </div>
  );
});

function heightOfRows({ shape }: StepNode["data"]): number {
  return 34 + 16 + shape.rows.reduce((sum, row) => sum + row.height, 0);
}

/** Of a node in a subgraph: shows one of its fields at the instances outside. */
function Promote({ id, node, input }: { id: string; node: DocNode; input: Input }) {
  const t = useT();
  const shown = promotedAs(node, input.name) !== undefined;
  if (!shown && node.links?.[input.name] !== undefined) return null;
  const label = t(shown ? "sub.unpromote" : "sub.promote", { name: labelOf(input) });
  return <button className="promote nodrag" aria-pressed={shown} aria-label={label} title={label} onClick={() => togglePromoted(id, input.name)}><Icon name="enter" size={11} /></button>;
}

/** Of a border: a double click renames the port. */
function PortName({ type, side, port }: { type: NodeType; side: "inputs" | "outputs"; port: Input | Output }) {
  const t = useT();
  const { name } = port;
  const subgraph = type.border ? type.id.slice(type.id.indexOf(":") + 1) : undefined;
  if (subgraph === undefined || type.border !== side || name === "+") return <>{labelOf(port)}</>;
  return <EditableText value={name} label={t("sub.rename", { name })} onChange={(to) => changeWhole(t("sub.rename", { name }), (doc) => renamePort(doc, subgraph, side, name, to))} />;
}

function Head({ id, data: { node, type }, run, problem, without }: { id: string; data: StepNode["data"]; run: NodeRun | undefined; problem: string | undefined; without: string | undefined }) {
  const t = useT();
  const set = (edit: () => void) => (event: React.MouseEvent) => {
    event.stopPropagation();
    edit();
  };
  return (
    <div className="node-head" title={type.missing ? t("node.missing", { type: type.id }) : `${type.id} · ${id}`}>
      <button className="fold nodrag" aria-label={t(node.ui?.collapsed ? "node.expand" : "node.collapse")} onClick={set(() => change("collapse", (doc) => toggleFlag(doc, [id], "collapsed")))}>
        <Icon name={node.ui?.collapsed ? "right" : "down"} size={14} />
      </button>
      <EditableText
        className="node-title" part={type.border ? undefined : id} value={node.title || type.title} label={t("node.title", { name: node.title || type.title })}
        onChange={(title) => change("title", (doc) => setNode(doc, id, (now) => ({ ...now, title })))}
      />
      {type.subgraph && <button className="enter nodrag" aria-label={t("sub.enter", { name: node.title || type.title })} title={`${t("cmd.sub.enter")} (Alt+↓)`} onClick={set(() => enter(id))}><Icon name="enter" size={14} /></button>}
      {node.ui?.breakpoint && <span className="badge bad" title={t("cmd.breakpoint")}><Icon name="stop" size={12} /></span>}
      {node.ui?.kept && <span className="badge cached" title={t("keep.why")}>{t("keep.badge")}</span>}
      {node.ui?.pinned && <Icon name="pin" size={14} />}
      {problem && <span className="badge bad" title={problem}><Icon name="warn" size={14} /></span>}
      {node.mode && node.mode !== "active" && (
        <button className="badge mode nodrag" onClick={set(() => change("mode", (doc) => toggleMode(doc, [id], node.mode!)))}>{t(node.mode === "muted" ? "node.muted" : "node.bypassed")}</button>
      )}
      {without ? <span className="badge" title={without}>{t("node.left.out")}</span> : <Timing run={run} />}
    </div>
  );
}

function Timing({ run }: { run: NodeRun | undefined }) {
  const t = useT();
  if (!run) return null;
  if (run.status === "cached") return <span className="badge cached" title={t("node.cached.why")}>{t("node.cached")}</span>;
  if (run.status === "paused") return <span className="badge live">{t("node.paused")}</span>;
  if (run.status === "skipped") return <span className="badge" title={run.message}>{t("node.skipped")}</span>;
  if (run.status === "blocked") return <span className="badge bad" title={t("node.blocked.why", { by: run.blockedBy ?? "?" })}>{t("node.blocked")}</span>;
  if (run.status === "running" && run.total) return <span className="badge live">{run.done}/{run.total}</span>;
  if (run.ms !== undefined && run.status === "done") return <span className="badge" title={run.parts ? t("node.parts", { count: run.parts }) : undefined}>{run.ms < 1000 ? `${Math.round(run.ms)} ms` : `${(run.ms / 1000).toFixed(1)} s`}</span>;
  return null;
}

function Progress({ run }: { run: NodeRun | undefined }) {
  if (run?.status !== "running") return null;
  const share = run.total ? Math.min(1, (run.done ?? 0) / run.total) : null;
  return (
    <div className={`bar ${share === null ? "open" : ""}`} role="progressbar" aria-valuemin={0} aria-valuemax={100} aria-valuenow={share === null ? undefined : Math.round(share * 100)} aria-label="progress">
      <i style={{ transform: `scaleX(${share ?? 0.3})` }} />
    </div>
  );
}

/** Of a collapsed node every socket lies at the head's side, so that its links stay where they are. */
function Closed({ id, data: { shape } }: { id: string; data: StepNode["data"] }) {
  const catalog = useStore(server, (now) => now.catalog);
  void catalog;
  return (
    <div className="closed" style={{ height: ROW }}>
      {shape.rows.map((row, index) => (
        <span key={index}>
          {row.input && <Socket node={id} port={row.more ? "+" : row.input.name} side="input" kind={row.input.kind} title={labelOf(row.input)} />}
          {row.output && <Socket node={id} port={row.output.name} side="output" kind={row.output.kind} title={labelOf(row.output)} />}
        </span>
      ))}
    </div>
  );
}
