/** WorkflowsPanel: one's own workflows in their folders, the shipped ones by use, with pictures and a search. */

import { useRef, useState } from "react";

import { get, send } from "../../api/http";
import type { Workflow } from "../../api/schema";
import { useT } from "../../i18n/t";
import { byUse, folders, type Folder } from "../../model/library";
import { command } from "../../state/commands";
import { drop, openNamed } from "../../state/files";
import { rename, uses } from "../../state/library";
import { toast } from "../../state/screen";
import { learnWorkflows, server, tell } from "../../state/server";
import { useStore } from "../../state/store";
import { Icon } from "../Icon";
import { GraphPicture } from "./GraphPicture";
import { Versions } from "./Versions";

export function WorkflowsPanel() {
  const t = useT();
  const workflows = useStore(server, (now) => now.workflows);
  const [text, setText] = useState("");
  const chooser = useRef<HTMLInputElement>(null);
  const words = text.toLowerCase().split(/\s+/);
  const found = workflows.filter((one) => words.every((part) => `${one.name} ${one.title} ${one.description}`.toLowerCase().includes(part)));
  const own = folders(found.filter((one) => one.writable));
  const [counts] = useState(uses.get); // as they were when it was opened: nothing moves away under the pointer
  const shipped = byUse(found.filter((one) => !one.writable), counts, Date.now());
  return (
    <>
      <input className="find" type="search" placeholder={t("search")} aria-label={t("search.workflows")} value={text} onChange={(event) => setText(event.target.value)} />
      <div className="buttons">
        <button onClick={() => command("new")}><Icon name="plus" size={14} /> {t("cmd.new")}</button>
        <button onClick={() => chooser.current?.click()}><Icon name="file" size={14} /> {t("open.file")}</button>
        <input ref={chooser} type="file" hidden multiple onChange={(event) => void drop([...(event.target.files ?? [])], { x: 0, y: 0 })} />
      </div>
      <div className="scroll">
        {(own.folders.length > 0 || own.entries.length > 0) && <section><h3>{t("workflows.own")}</h3><Inside folder={own} open={text !== ""} /></section>}
        {shipped.length > 0 && <section><h3>{t("workflows.shipped")}</h3>{shipped.map((one) => <Card key={one.name} workflow={one} />)}</section>}
        {!found.length && <p className="quiet">{t("search.none")}</p>}
      </div>
    </>
  );
}

/** While something is searched every folder is open. */
function Inside({ folder, open }: { folder: Folder<Workflow>; open: boolean }) {
  const t = useT();
  return (
    <>
      {folder.folders.map((inner) => (
        <details key={`${inner.name} ${open}`} open={open || undefined} className="folder">
          <summary aria-label={t("library.folder", { name: inner.name })}><Icon name="folder" size={15} /> {inner.name} <small>{countOf(inner)}</small></summary>
          <Inside folder={inner} open={open} />
        </details>
      ))}
      {folder.entries.map((one) => <Card key={one.name} workflow={one} />)}
    </>
  );
}

function countOf(folder: Folder<Workflow>): number {
  return folder.entries.length + folder.folders.reduce((sum, inner) => sum + countOf(inner), 0);
}

function Card({ workflow }: { workflow: Workflow }) {
  const t = useT();
  const [old, setOld] = useState(false);
  const [naming, setNaming] = useState(false);
  const remove = async (): Promise<void> => {
    try {
      const document = await get<unknown>("/api/v1/documents/{name}", { name: workflow.name });
      await send("DELETE", "/api/v1/documents/{name}", { name: workflow.name });
      toast(t("workflows.removed", { name: workflow.name }), "info", {
        action: { label: t("undo"), run: () => void send("PUT", "/api/v1/documents/{name}", { name: workflow.name }, document).then(learnWorkflows, tell) },
      });
      await learnWorkflows();
    } catch (error) {
      tell(error);
    }
  };
  return (
    <article className="card">
      <button className="open" onClick={() => void openNamed(workflow.name)}>
        {!workflow.error && <GraphPicture workflow={workflow} />}
        <b>{workflow.title || workflow.name}</b>
        <span>{workflow.error ?? workflow.description}</span>
        <small>{t("workflows.nodes", { count: workflow.nodes })} · {workflow.name}</small>
      </button>
      {workflow.writable && <button className="icon-button" aria-label={`${t("versions")} ${workflow.name}`} title={t("versions")} aria-expanded={old} onClick={() => setOld(!old)}><Icon name="runs" size={14} /></button>}
      {workflow.writable && <button className="icon-button" aria-label={`${t("cmd.delete")} ${workflow.name}`} onClick={() => void remove()}><Icon name="trash" size={14} /></button>}
      {workflow.writable && <button className="icon-button" aria-label={`${t("library.rename")} ${workflow.name}`} title={t("library.rename")} aria-expanded={naming} onClick={() => setNaming(!naming)}><Icon name="folder" size={14} /></button>}
      {naming && (
        <form className="naming" onSubmit={(event) => { event.preventDefault(); setNaming(false); void rename(workflow.name, String(new FormData(event.currentTarget).get("name") ?? "")); }}>
          <input name="name" autoFocus defaultValue={workflow.name} maxLength={200} aria-label={t("library.rename.name", { name: workflow.name })} onKeyDown={(event) => event.key === "Escape" && setNaming(false)} />
          <small>{t("library.rename.how")}</small>
        </form>
      )}
      {old && <Versions name={workflow.name} />}
    </article>
  );
}
