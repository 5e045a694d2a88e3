/** SubgraphForm: a subgraph's title and words, its ports (rename, order, take away), and publishing it. */

import { useEffect, useState } from "react";

import { useT } from "../../i18n/t";
import type { ExposedInput, ExposedOutput, Subgraph } from "../../model/document";
import { movePort, removeOutput, renamePort, unpromote } from "../../model/expose";
import { setSubgraph } from "../../model/subgraph";
import { composing } from "../../state/keys";
import { screen } from "../../state/screen";
import { server } from "../../state/server";
import { useStore } from "../../state/store";
import { meant, publish } from "../../state/subgraphs";
import { activeOf, changeWhole, workspace } from "../../state/workspace";
import { Icon } from "../Icon";

export function SubgraphForm() {
  const t = useT();
  useStore(workspace, activeOf);
  const name = meant();
  const part = name === undefined ? undefined : activeOf(workspace.get()).history.present.subgraphs?.[name];
  if (name === undefined || !part) return null;
  const set = (field: "title" | "description" | "category", value: string): void => {
    changeWhole(t("cmd.sub.ports"), (doc) => setSubgraph(doc, name, (now): Subgraph => ({ ...now, [field]: value })), `sub ${name} ${field}`);
  };
  return (
    <div className="scroll form subgraph-form">
      <label className="setting"><span>{t("sub.title")}</span><input value={part.title ?? ""} maxLength={100} onChange={(event) => set("title", event.target.value)} /></label>
      <label className="setting"><span>{t("sub.about")}</span><textarea value={part.description ?? ""} maxLength={2000} rows={2} onChange={(event) => set("description", event.target.value)} /></label>
      <label className="setting"><span>{t("sub.group")}</span><input value={part.category ?? ""} maxLength={100} placeholder={t("sub.category")} onChange={(event) => set("category", event.target.value)} /></label>
      <Ports name={name} side="inputs" ports={part.inputs ?? []} />
      <Ports name={name} side="outputs" ports={part.outputs ?? []} />
      <div className="buttons"><button className="primary" onClick={() => { screen.patch({ dialog: null }); void publish(); }}>{t("cmd.sub.publish")}</button></div>
    </div>
  );
}

function Ports({ name, side, ports }: { name: string; side: "inputs" | "outputs"; ports: readonly (ExposedInput | ExposedOutput)[] }) {
  const t = useT();
  const catalog = useStore(server, (now) => now.catalog);
  const act = (edit: Parameters<typeof changeWhole>[1]): void => changeWhole(t("cmd.sub.ports"), edit);
  return (
    <section>
      <h3>{t(`sub.${side}`)}</h3>
      {!ports.length && <p className="quiet">{t("sub.no.ports")}</p>}
      <ul className="ports">
        {ports.map((port, index) => (
          <li key={index}>
            <i style={{ background: catalog.color(port.kind) }} />
            <Name name={port.name} onChange={(to) => act((doc) => renamePort(doc, name, side, port.name, to))} />
            <small>{port.kind}</small>
            <button className="icon-button" disabled={!index} aria-label={t("sub.up", { name: port.name })} onClick={() => act((doc) => movePort(doc, name, side, port.name, -1))}>↑</button>
            <button className="icon-button" disabled={index === ports.length - 1} aria-label={t("sub.down", { name: port.name })} onClick={() => act((doc) => movePort(doc, name, side, port.name, 1))}>↓</button>
            <button className="icon-button" aria-label={t("sub.remove", { name: port.name })} onClick={() => act((doc) => (side === "inputs" ? unpromote(doc, name, port.name) : removeOutput(doc, name, port.name)))}><Icon name="close" size={13} /></button>
          </li>
        ))}
      </ul>
    </section>
  );
}

/** Renamed with Enter or when it is left; the focus stays where it is. */
function Name({ name, onChange }: { name: string; onChange: (to: string) => void }) {
  const t = useT();
  const [text, setText] = useState(name);
  useEffect(() => setText(name), [name]);
  const done = (): void => {
    if (text.trim() && text !== name) onChange(text);
    else setText(name);
  };
  return <input aria-label={t("sub.rename", { name })} value={text} maxLength={100} onChange={(event) => setText(event.target.value)} onBlur={done} onKeyDown={(event) => event.key === "Enter" && !composing(event) && done()} />;
}
