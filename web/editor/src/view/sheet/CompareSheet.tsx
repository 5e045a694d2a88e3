/** CompareSheet: two versions of a workflow, or two runs: what is different on the canvas, as a list with both values, and in what came out. */

import { useEffect, useMemo, useRef, useState } from "react";

import { get } from "../../api/http";
import { useT, type Word } from "../../i18n/t";
import type { Change } from "../../model/changes";
import { compare, lines } from "../../model/compare";
import { dumpJson } from "../../model/json";
import { showNode } from "../../state/commands";
import { choices, contentOf, keyOf, type Content, type Version } from "../../state/compare";
import { screen, type Side } from "../../state/screen";
import { server, tell } from "../../state/server";
import { useStore } from "../../state/store";
import { activeOf, workspace } from "../../state/workspace";
import { CompareMap } from "./CompareMap";
import { Results } from "./CompareResults";
import { Words } from "./Words";

export function CompareSheet({ before, after }: { before: Side; after: Side }) {
  const t = useT();
  const tab = useStore(workspace, activeOf);
  const catalog = useStore(server, (now) => now.catalog);
  useStore(server, (now) => now.history);
  const [versions, setVersions] = useState<Version[]>([]);
  const [old, now] = [useContent(before), useContent(after)];
  const [chosen, setChosen] = useState<string | null>(null);
  const list = useRef<HTMLDivElement>(null);
  useEffect(() => {
    setVersions([]);
    if (tab.name !== null) get<{ versions: Version[] }>("/api/v1/versions/{name}", { name: tab.name }).then((found) => setVersions(found.versions), () => undefined);
  }, [tab.name]);
  const found = useMemo(() => (old && now ? { nodes: compare(old.doc, now.doc, catalog), lines: lines(old.doc, now.doc) } : undefined), [old, now, catalog]);
  const groups = choices(versions);
  const set = (which: "before" | "after") => (key: string): void => {
    const side = groups.flatMap((group) => group.sides).find((one) => one.key === key)?.side;
    if (side) screen.patch({ sheet: { kind: "compare", before, after, [which]: side } });
  };
  const different = found?.nodes.filter((one) => one.fate !== "same") ?? [];
  const choose = (node: string): void => {
    setChosen(node);
    list.current?.querySelector(`[data-compared="${CSS.escape(node)}"]`)?.scrollIntoView({ block: "nearest" });
  };
  return (
    <div className="compare">
      <div className="buttons">
        <Pick label={t("compare.before")} groups={groups} side={before} onChange={set("before")} />
        <button onClick={() => screen.patch({ sheet: { kind: "compare", before: after, after: before } })} aria-label={t("compare.swap")} title={t("compare.swap")}>⇄</button>
        <Pick label={t("compare.after")} groups={groups} side={after} onChange={set("after")} />
        <span role="status" className="tally">
          {found && (different.length ? (["added", "removed", "changed"] as const).map((fate) => [fate, different.filter((one) => one.fate === fate).length] as const).filter(([, count]) => count).map(([fate, count]) => <span key={fate} className={`fate ${fate}`}>{t(`compare.${fate}`, { count })}</span>) : t("compare.none"))}
        </span>
      </div>
      {found && old && now && (
        <div className="sides">
          <CompareMap nodes={found.nodes} lines={found.lines} chosen={chosen} onChoose={choose} />
          <div className="list" ref={list} tabIndex={0} role="group" aria-label={t("compare.list")}>
            {different.map((one) => (
              <section key={one.node} data-compared={one.node} className={`${one.fate} ${one.node === chosen ? "chosen" : ""}`}>
                <h3>
                  <button className="line" onClick={() => { setChosen(one.node); if (one.node in tab.history.present.nodes) showNode(one.node); }}>{one.title} <small>{one.node}</small></button>
                  <span className={`fate ${one.fate}`}>{t(`compare.is.${one.fate as "added"}`)}</span>
                </h3>
                {one.changes.map((change, index) => <Row key={index} change={change} />)}
              </section>
            ))}
            {(old.result || now.result) && <Results before={old.result ?? {}} after={now.result ?? {}} titles={new Map(found.nodes.map((one) => [one.node, one.title]))} />}
          </div>
        </div>
      )}
    </div>
  );
}

function useContent(side: Side): Content | undefined {
  const [found, setFound] = useState<{ key: string; content: Content } | undefined>();
  const key = keyOf(side);
  // a tab is followed while it is edited
  const doc = useStore(workspace, (space) => (side.kind === "tab" ? space.tabs.find((tab) => tab.id === side.id)?.history.present : undefined));
  useEffect(() => {
    let gone = false;
    contentOf(JSON.parse(key) as Side).then((content) => gone || setFound({ key, content }), (error: unknown) => gone || tell(error));
    return () => {
      gone = true;
    };
  }, [key, doc]);
  return found?.key === key ? found.content : undefined;
}

function Pick({ label, groups, side, onChange }: { label: string; groups: ReturnType<typeof choices>; side: Side; onChange: (key: string) => void }) {
  const t = useT();
  const key = keyOf(side);
  const known = groups.some((group) => group.sides.some((one) => one.key === key));
  return (
    <label>
      {label}{" "}
      <select value={key} onChange={(event) => onChange(event.target.value)}>
        {!known && <option value={key}>{side.kind === "run" ? t("compare.run") : side.kind === "tab" ? "–" : `${side.name}${side.kind === "version" ? ` · ${side.id.slice(0, 15)}` : ""}`}</option>}
        {groups.map((group) => <optgroup key={group.label} label={group.label}>{group.sides.map((one) => <option key={one.key} value={one.key}>{one.label}</option>)}</optgroup>)}
      </select>
    </label>
  );
}

function Row({ change }: { change: Change }) {
  const t = useT();
  const name = change.what === "value" || change.what === "link" ? (change.port ?? "").replace(/_/g, " ") : t(`compare.what.${change.what}` as Word);
  const text = (value: unknown): string => (value === undefined ? "–" : typeof value === "string" ? value : dumpJson(value));
  const long = typeof change.before === "string" && typeof change.after === "string" && change.what === "value" && /\s|[^\x20-\x7e]/.test(change.before + change.after);
  return (
    <div className="row">
      <b>{change.what === "link" ? `${name} ⟵` : name}</b>
      {long ? <Words before={change.before as string} after={change.after as string} /> : <span><del>{text(change.before).slice(0, 2000)}</del> <span aria-hidden="true">→</span> <ins>{text(change.after).slice(0, 2000)}</ins></span>}
    </div>
  );
}
