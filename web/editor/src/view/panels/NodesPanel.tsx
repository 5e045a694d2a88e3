/** NodesPanel: every node type, by category, with its docs. A press adds it, a drag puts it somewhere. */

import { useMemo, useState } from "react";

import { useT } from "../../i18n/t";
import type { Input, NodeType, Output } from "../../model/nodetype";
import { search } from "../../model/search";
import { camera } from "../../state/camera";
import { addAt } from "../../state/commands";
import { screen } from "../../state/screen";
import { server } from "../../state/server";
import { useStore } from "../../state/store";
import { Icon } from "../Icon";
import { hueOf } from "../canvas/hue";
import { Markdown } from "../media/Markdown";

export function NodesPanel() {
  const t = useT();
  const catalog = useStore(server, (now) => now.catalog);
  const docs = useStore(screen, (now) => now.docs);
  const [text, setText] = useState("");
  const groups = useMemo(() => {
    const found = new Map<string, NodeType[]>();
    for (const type of search(catalog, text)) found.set(type.category, [...(found.get(type.category) ?? []), type]);
    return text ? [...found] : [...found].sort(([a], [b]) => a.localeCompare(b));
  }, [catalog, text]);
  const failures = Object.entries(catalog.failures);
  const shown = docs ? catalog.types.get(docs) : undefined;
  return (
    <>
      <input className="find" type="search" placeholder={t("search")} aria-label={t("search.nodes")} value={text} onChange={(event) => setText(event.target.value)} />
      <div className="scroll">
        {failures.map(([pack, why]) => <p key={pack} className="failure">{pack}: {why}</p>)}
        {groups.map(([category, types]) => (
          <details key={category} open={text !== "" || category.startsWith("NExT")}>
            <summary style={{ "--hue": hueOf(category) } as React.CSSProperties}>{types[0]!.group ?? category} <small>{types.length}</small></summary>
            {types.map((type) => (
              <div key={type.id} className="entry">
                <button title={type.id} onClick={() => addAt(type.id, camera.pointer())}>{type.title}</button>
                <button className="icon-button" aria-label={`${t("docs")} ${type.title}`} aria-expanded={docs === type.id} onClick={() => screen.patch({ docs: docs === type.id ? null : type.id })}><Icon name="help" size={15} /></button>
              </div>
            ))}
          </details>
        ))}
        {!groups.length && <p className="quiet">{t("search.none")}</p>}
      </div>
      {shown && <Docs type={shown} />}
    </>
  );
}

function Docs({ type }: { type: NodeType }) {
  const t = useT();
  const catalog = useStore(server, (now) => now.catalog);
  const port = (one: Input | Output, more = "") => (
    <li key={one.name}><i style={{ background: catalog.color(one.kind) }} /> {one.name}{one.label && one.label !== one.name && ` ${one.label}`} <small>{one.kind}{more}</small></li>
  );
  return (
    <section className="docs" aria-label={t("docs")}>
      <h3>{type.title} <button className="icon-button" aria-label={t("close")} onClick={() => screen.patch({ docs: null })}><Icon name="close" size={13} /></button></h3>
      <code>{type.id} {type.version}</code>
      <Markdown text={type.description} />
      {type.inputs.length > 0 && <><h4>{t("docs.inputs")}</h4><ul>{type.inputs.map((input) => port(input, input.required ? "" : ` = ${String(input.default ?? "–")}`))}</ul></>}
      {type.outputs.length > 0 && <><h4>{t("docs.outputs")}</h4><ul>{type.outputs.map((output) => port(output))}</ul></>}
    </section>
  );
}
