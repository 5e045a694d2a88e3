/** Versions: what a workflow was before, what is different, and the way back. */

import { useEffect, useState } from "react";

import { get } from "../../api/http";
import { useT } from "../../i18n/t";
import { changes, type Change } from "../../model/changes";
import { toDoc, type Doc } from "../../model/document";
import { dumpJson } from "../../model/json";
import { screen } from "../../state/screen";
import { tell } from "../../state/server";
import { useStore } from "../../state/store";
import { activeOf, newTab, openTab, workspace } from "../../state/workspace";

interface Version {
  id: string;
  replaced: number;
  bytes: number;
}

export function Versions({ name }: { name: string }) {
  const t = useT();
  const [versions, setVersions] = useState<Version[] | null>(null);
  const [shown, setShown] = useState<{ id: string; doc: Doc } | null>(null);
  const tab = useStore(workspace, activeOf);
  useEffect(() => {
    get<{ versions: Version[] }>("/api/v1/versions/{name}", { name }).then((found) => setVersions(found.versions), tell);
  }, [name]);
  const look = async (id: string): Promise<void> => {
    try {
      setShown({ id, doc: toDoc(await get<unknown>("/api/v1/versions/{name}", { name }, { version: id })) });
    } catch (error) {
      tell(error);
    }
  };
  if (!versions) return null;
  if (!versions.length) return <p className="quiet">{t("versions.none")}</p>;
  const now = tab.name === name ? tab.history.present : undefined;
  return (
    <div className="versions">
      {versions.slice(0, 30).map((one) => (
        <div key={one.id}>
          <button className="line" aria-expanded={shown?.id === one.id} onClick={() => void look(one.id)}>{new Date(one.replaced * 1000).toLocaleString()}</button>
          {shown?.id === one.id && (
            <>
              {now && <ul>{changes(shown.doc, now).slice(0, 20).map((change, index) => <li key={index} className={change.what}>{describe(change)}</li>)}</ul>}
              <button className="line" onClick={() => screen.patch({ sheet: { kind: "compare", before: { kind: "version", name, id: one.id }, after: now ? { kind: "tab", id: tab.id } : { kind: "saved", name } } })}><b>{t("compare.versions")}</b></button>
              <button className="line" onClick={() => openTab(newTab(shown.doc, `${name} (${one.id.slice(0, 6)})`, { saved: null }))}><b>{t("versions.open")}</b></button>
            </>
          )}
        </div>
      ))}
    </div>
  );
}

function describe(change: Change): string {
  const short = (value: unknown): string => (value === undefined ? "–" : typeof value === "string" ? value : dumpJson(value)).slice(0, 30);
  if (change.what === "added" || change.what === "removed") return `${change.what === "added" ? "+" : "−"} ${change.node}`;
  return `${change.node}${change.port ? `.${change.port}` : ""}: ${short(change.before)} → ${short(change.after)}`;
}
