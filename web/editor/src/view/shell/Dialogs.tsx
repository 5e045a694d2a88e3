/** Dialogs: settings, shortcuts, save, palette, token, first steps. */

import { useEffect, useRef, useState } from "react";

import { useT, type Word } from "../../i18n/t";
import { connect } from "../../model/edit";
import { offers } from "../../model/offers";
import { COMMANDS, type Command } from "../../state/commands";
import { save } from "../../state/files";
import { composing } from "../../state/keys";
import { screen, type Dialog } from "../../state/screen";
import { server } from "../../state/server";
import { settings, type Settings } from "../../state/settings";
import { useStore } from "../../state/store";
import { active, change, here } from "../../state/workspace";
import { Icon } from "../Icon";
import { ConflictForm } from "./ConflictForm";
import { useFocusTrap } from "./focus";
import { SubgraphForm } from "./SubgraphForm";
import { Tour } from "./Tour";

const close = (): void => screen.patch({ dialog: null });

export function Dialogs() {
  const dialog = useStore(screen, (now) => now.dialog);
  if (!dialog) return null;
  if (dialog === "tour") return <Tour />;
  return <Frame key={dialog} dialog={dialog} />;
}

const TITLES: Record<Exclude<Dialog, "tour">, Word> = { settings: "cmd.settings", help: "cmd.help", save: "cmd.save.as", palette: "cmd.palette", link: "cmd.link", token: "token.title", subgraph: "cmd.sub.ports", conflict: "conflict.title" };
const VIEWS: Record<Exclude<Dialog, "tour">, () => React.ReactNode> = { settings: SettingsForm, help: Help, save: SaveForm, palette: Palette, link: LinkList, token: TokenForm, subgraph: SubgraphForm, conflict: ConflictForm };

function Frame({ dialog }: { dialog: Exclude<Dialog, "tour"> }) {
  const t = useT();
  const box = useRef<HTMLDivElement>(null);
  useFocusTrap(box);
  const View = VIEWS[dialog];
  return (
    <div className="veil" onPointerDown={(event) => event.target === event.currentTarget && close()}>
      <div ref={box} className={`dialog ${dialog}`} role="dialog" aria-modal="true" aria-label={t(TITLES[dialog])} onKeyDown={(event) => { event.stopPropagation(); if (event.key === "Escape" && !composing(event)) close(); }}>
        <header><h2>{t(TITLES[dialog])}</h2><button className="icon-button" aria-label={t("close")} onClick={close}><Icon name="close" size={16} /></button></header>
        <View />
      </div>
    </div>
  );
}

function SettingsForm() {
  const t = useT();
  const now = useStore(settings);
  const pick = <K extends keyof Settings>(key: K, word: Word, options: [Settings[K] & string, string][]) => (
    <label className="setting"><span>{t(word)}</span><select value={now[key] as string} onChange={(event) => settings.patch({ [key]: event.target.value } as Partial<Settings>)}>{options.map(([value, label]) => <option key={value} value={value}>{label}</option>)}</select></label>
  );
  const flag = (key: keyof Settings, word: Word) => (
    <label className="setting"><span>{t(word)}</span><input type="checkbox" role="switch" checked={now[key] as boolean} onChange={(event) => settings.patch({ [key]: event.target.checked } as Partial<Settings>)} /></label>
  );
  return (
    <div className="scroll form">
      {pick("theme", "settings.theme", [["dark", t("theme.dark")], ["light", t("theme.light")], ["system", t("theme.system")]])}
      {pick("lang", "settings.lang", [["en", "English"], ["zh", "中文"]])}
      {pick("links", "settings.links", [["curve", t("links.curve")], ["straight", t("links.straight")], ["step", t("links.step")]])}
      {flag("snap", "settings.snap")}
      {flag("grid", "settings.grid")}
      {flag("minimap", "minimap")}
      {flag("hideLinks", "cmd.links")}
      {flag("runOnChange", "run.on.change.why")}
      <p><button onClick={() => screen.patch({ dialog: "tour" })}>{t("tour.again")}</button></p>
    </div>
  );
}

const GROUPS: [Command["group"], Word][] = [["run", "help.run"], ["edit", "help.edit"], ["arrange", "help.arrange"], ["view", "help.view"], ["file", "help.file"]];

function Help() {
  const t = useT();
  return (
    <div className="scroll sheet">
      {GROUPS.map(([group, word]) => (
        <section key={group}>
          <h3>{t(word)}</h3>
          <dl>{COMMANDS.filter((one) => one.group === group && one.keys).map((one) => <div key={one.id}><dt>{t(one.word)}</dt><dd><kbd>{one.keys}</kbd></dd></div>)}</dl>
        </section>
      ))}
      <section>
        <h3>{t("help.mouse")}</h3>
        <dl>{(["add", "link", "unlink", "box", "reroute", "number", "drop", "result"] as const).map((one) => <div key={one}><dt>{t(`help.mouse.${one}`)}</dt><dd>{t(`help.mouse.${one}.how`)}</dd></div>)}</dl>
      </section>
    </div>
  );
}

function SaveForm() {
  const t = useT();
  const tab = active();
  const [name, setName] = useState(tab.name ?? tab.title.replace(/[^\p{L}\p{N} _-]/gu, " ").trim());
  return (
    <form className="form" onSubmit={(event) => { event.preventDefault(); close(); void save(name); }}>
      <label className="setting"><span>{t("save.name")}</span><input autoFocus value={name} maxLength={200} onChange={(event) => setName(event.target.value)} onFocus={(event) => event.target.select()} /></label>
      <p className="quiet">{t("save.name.why")}</p>
      <div className="buttons"><span className="spring" /><button type="button" onClick={close}>{t("cancel")}</button><button className="primary" disabled={!name.trim()}>{t("cmd.save")}</button></div>
    </form>
  );
}

function TokenForm() {
  const t = useT();
  const [token, setToken] = useState("");
  return (
    <form className="form" onSubmit={(event) => { event.preventDefault(); location.assign(`/?token=${encodeURIComponent(token)}`); }}>
      <p>{t("token.why")}</p>
      <label className="setting"><span>{t("token.title")}</span><input autoFocus type="password" autoComplete="off" value={token} onChange={(event) => setToken(event.target.value)} /></label>
      <div className="buttons"><span className="spring" /><button className="primary" disabled={!token}>{t("token.enter")}</button></div>
    </form>
  );
}

function Palette() {
  const t = useT();
  return <Pick label={t("cmd.palette")} entries={COMMANDS.filter((one) => one.id !== "palette").map((one) => ({ key: one.id, text: t(one.word), keys: one.keys, run: one.run }))} />;
}

/** Every link that the selected node could have: linking without a pointer. */
function LinkList() {
  const t = useT();
  const doc = here();
  const { catalog } = server.get();
  const name = (id: string): string => doc.nodes[id]!.title || catalog.of(doc.nodes[id]!).title;
  const entries = [...active().selected].filter((id) => id in doc.nodes).slice(0, 1).flatMap((id) =>
    offers(doc, catalog, id).map(({ source, output, target, input, taken }) => ({
      key: `${source}.${output} ${target}.${input}`, text: `${name(source)} · ${output} → ${name(target)} · ${input}`, keys: taken ? t("link.replaces") : undefined,
      run: () => change(t("edit.link"), (now) => connect(now, source, output, target, input)),
    })),
  );
  return <Pick label={t("cmd.link")} entries={entries} none={t("link.choose")} />;
}

interface Entry {
  key: string;
  text: string;
  keys?: string;
  run: () => void;
}

function Pick({ label, entries, none }: { label: string; entries: Entry[]; none?: string }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const list = useRef<HTMLDivElement>(null);
  const words = text.toLowerCase().split(/\s+/);
  const found = entries.filter((one) => words.every((word) => one.text.toLowerCase().includes(word))).slice(0, 200);
  useEffect(() => {
    list.current?.querySelector("[aria-selected=true]")?.scrollIntoView?.({ block: "nearest" });
  }, [at]);
  const go = (one: Entry | undefined): void => {
    close();
    one?.run();
  };
  return (
    <div className="search inner">
      <input
        autoFocus role="combobox" aria-expanded="true" aria-controls="pick" aria-activedescendant={`pick-${at}`} aria-label={label} value={text} onChange={(event) => { setText(event.target.value); setAt(0); }}
        onKeyDown={(event) => {
          if (composing(event)) return;
          if (event.key === "ArrowDown") setAt(Math.min(at + 1, found.length - 1));
          else if (event.key === "ArrowUp") setAt(Math.max(at - 1, 0));
          else if (event.key === "Enter") go(found[at]);
          else return;
          event.preventDefault();
        }}
      />
      <div ref={list} id="pick" role="listbox" aria-label={label} tabIndex={-1}>
        {found.map((one, index) => <div key={one.key} id={`pick-${index}`} role="option" aria-selected={index === at} onPointerMove={() => setAt(index)} onClick={() => go(one)}><b>{one.text}</b>{one.keys && <kbd>{one.keys}</kbd>}</div>)}
        {!found.length && none && <p className="quiet">{none}</p>}
      </div>
    </div>
  );
}
