/** WorkflowsPanel: the shipped workflows and one's own, with a search. */

import { useRef, useState } from "react";

import { send } from "../../api/http";
import type { Workflow } from "../../api/schema";
import { useT } from "../../i18n/t";
import { command } from "../../state/commands";
import { drop, openNamed } from "../../state/files";
import { toast } from "../../state/screen";
import { learnWorkflows, server, tell } from "../../state/server";
import { useStore } from "../../state/store";
import { Icon } from "../Icon";
import { Versions } from "./Versions";

export function WorkflowsPanel() {
  const t = useT();
  const workflows = useStore(server, (now) => now.workflows);
  const [text, setText] = useState("");
  const chooser = useRef<HTMLInputElement>(null);
  const words = text.toLowerCase().split(/\s+/);
  const found = workflows.filter((one) => words.every((part) => `${one.name} ${one.title} ${one.description}`.toLowerCase().includes(part)));
  const part = (title: string, list: Workflow[]) => list.length > 0 && <section><h3>{title}</h3>{list.map((one) => <Card key={one.name} workflow={one} />)}</section>;
  return (
    <>
      <input className="find" type="search" placeholder={t("search")} aria-label={t("search.workflows")} value={text} onChange={(event) => setText(event.target.value)} />
      <div className="buttons">
        <button onClick={() => command("new")}><Icon name="plus" size={14} /> {t("cmd.new")}</button>
        <button onClick={() => chooser.current?.click()}><Icon name="file" size={14} /> {t("open.file")}</button>
        <input ref={chooser} type="file" hidden multiple onChange={(event) => void drop([...(event.target.files ?? [])], { x: 0, y: 0 })} />
      </div>
      <div className="scroll">
        {part(t("workflows.own"), found.filter((one) => one.writable))}
        {part(t("workflows.shipped"), found.filter((one) => !one.writable))}
        {!found.length && <p className="quiet">{t("search.none")}</p>}
      </div>
    </>
  );
}

function Card({ workflow }: { workflow: Workflow }) {
  const t = useT();
  const [old, setOld] = useState(false);
  const remove = async (): Promise<void> => {
    try {
      const text = await fetch(`/api/v1/documents/${encodeURI(workflow.name)}`).then((answer) => answer.json() as Promise<unknown>);
      await send("DELETE", "/api/v1/documents/{name}", { name: workflow.name });
      toast(t("workflows.removed", { name: workflow.name }), "info", {
        action: { label: t("undo"), run: () => void send("PUT", "/api/v1/documents/{name}", { name: workflow.name }, text).then(learnWorkflows) },
      });
      await learnWorkflows();
    } catch (error) {
      tell(error);
    }
  };
  return (
    <article className="card">
      <button className="open" onClick={() => void openNamed(workflow.name)}>
        <b>{workflow.title || workflow.name}</b>
        <span>{workflow.error ?? workflow.description}</span>
        <small>{t("workflows.nodes", { count: workflow.nodes })} · {workflow.name}</small>
      </button>
      {workflow.writable && <button className="icon-button" aria-label={`${t("versions")} ${workflow.name}`} title={t("versions")} aria-expanded={old} onClick={() => setOld(!old)}><Icon name="runs" size={14} /></button>}
      {workflow.writable && <button className="icon-button" aria-label={`${t("cmd.delete")} ${workflow.name}`} onClick={() => void remove()}><Icon name="trash" size={14} /></button>}
      {old && <Versions name={workflow.name} />}
    </article>
  );
}
