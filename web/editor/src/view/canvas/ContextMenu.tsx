/** ContextMenu: what can be done to the thing under the pointer. */

import { useEffect, useRef } from "react";

import { t as word, useT, type Word } from "../../i18n/t";
import { disconnect, insertConverter, setPart, setUi } from "../../model/edit";
import { splitLink } from "../../model/document";
import { labelIn } from "../../model/nodetype";
import { pathOf } from "../../model/subgraph";
import { converters } from "../../model/validate";
import { command, COMMANDS, GROUP_COLORS } from "../../state/commands";
import { paintable } from "../../state/painting";
import { problems } from "../../state/problems";
import { screen, type Menu } from "../../state/screen";
import { vary } from "../../state/sweep";
import { server } from "../../state/server";
import { useStore } from "../../state/store";
import { active, change } from "../../state/workspace";
import { SubgraphItems } from "./SubgraphItems";

const OF: Record<Menu["target"]["kind"], string[]> = {
  node: ["run.here", "look", "breakpoint", "keep", "-", "words", "mute", "bypass", "collapse", "pin", "-", "copy", "duplicate", "group", "mask", "sub.make", "-", "arrange", "left", "top", "spread.x", "spread.y", "-", "dissolve", "delete"],
  group: ["words", "mute", "bypass", "collapse", "-", "copy", "duplicate", "delete"],
  note: ["words", "copy", "duplicate", "delete"],
  canvas: ["add", "note", "group", "paste", "-", "all", "arrange", "fit", "-", "run", "sweep", "save", "download", "share"],
  link: [],
};

export function ContextMenu() {
  const menu = useStore(screen, (now) => now.menu);
  return menu ? <Open menu={menu} /> : null;
}

function Open({ menu }: { menu: Menu }) {
  const t = useT();
  const box = useRef<HTMLDivElement>(null);
  const close = (): void => screen.patch({ menu: null });
  const { kind, id } = menu.target;
  useEffect(() => {
    box.current?.querySelector<HTMLElement>("[role=menuitem]")?.focus();
    const away = (event: PointerEvent): void => {
      if (!box.current?.contains(event.target as Node)) close();
    };
    addEventListener("pointerdown", away, true);
    return () => removeEventListener("pointerdown", away, true);
  }, []);
  const step = (event: React.KeyboardEvent): void => {
    const items = [...(box.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
    const now = items.indexOf(document.activeElement as HTMLElement);
    if (event.key === "ArrowDown") items[(now + 1) % items.length]?.focus();
    else if (event.key === "ArrowUp") items[(now + items.length - 1) % items.length]?.focus();
    else if (event.key === "Escape" || event.key === "Tab") close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const item = (key: string, label: string, run: () => void, keys = "") => (
    <button key={key} role="menuitem" tabIndex={-1} onClick={() => { close(); run(); }}><span>{label}</span>{keys && <kbd>{keys}</kbd>}</button>
  );
  const color = (value: string): void => {
    if (kind === "node") change(word("edit.color"), (doc) => [...active().selected].reduce((now, one) => (now.nodes[one] ? setUi(now, one, { color: value }) : now), doc));
    else change(word("edit.color"), (doc) => setPart(doc, id, { color: value }));
  };
  const fault = kind === "link" ? problems.get().find((one) => one.kinds && `${one.node}.${one.port}` === pathOf(active().inside, id)) : undefined;
  return (
    <div ref={box} className="menu" role="menu" aria-label={t("menu")} style={{ left: Math.min(menu.at.x, innerWidth - 240), top: Math.min(menu.at.y, Math.max(8, innerHeight - 60 - OF[kind].length * 26)) }} onKeyDown={step}>
      {kind === "link" && item("cut", t("edit.cut"), () => change(word("edit.cut"), (doc) => { const [node, port] = splitLink(id); return disconnect(doc, node, port); }))}
      {fault?.kinds && converters(server.get().catalog, ...fault.kinds).slice(0, 6).map((one) =>
        item(one.type.id, t("link.convert", { name: one.type.title }), () => change(word("edit.link"), (doc) => insertConverter(doc, splitLink(id)[0], fault.port!, { type: one.type.id, input: one.input, output: one.output }, menu.place))),
      )}
      {kind === "node" && <SubgraphItems id={id} item={item} />}
      {menu.target.input && !active().inside.length && item("sweep", t("sweep.vary", { name: labelIn(server.get().catalog.of(active().history.present.nodes[id]!), menu.target.input) }), () => vary(`${id}.${menu.target.input}`))}
      {OF[kind].map((name, index) => {
        if (name === "-") return <hr key={index} />;
        if (name === "mask" && !paintable(id)) return null;
        const found = COMMANDS.find((one) => one.id === name)!;
        return item(name, t(found.word as Word), () => command(name), found.keys);
      })}
      {kind !== "canvas" && kind !== "link" && (
        <div className="colors">
          {GROUP_COLORS.map((value) => <button key={value} role="menuitem" tabIndex={-1} aria-label={`${t("edit.color")} ${value}`} style={{ background: value }} onClick={() => { close(); color(value); }} />)}
        </div>
      )}
    </div>
  );
}
