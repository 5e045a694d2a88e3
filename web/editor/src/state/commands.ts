/** Commands: everything that can be done by a key, a menu or the palette, in one table. */

import type { Word } from "../i18n/t";
import { t } from "../i18n/t";
import { align, type Side } from "../model/align";
import { clipText, copy, isEmpty, paste, readClip, type Clip } from "../model/clipboard";
import { emptyDoc, type Frame, type Point } from "../model/document";
import * as edit from "../model/edit";
import { bounds, frameOf, freeBelow, inside } from "../model/shape";
import { follow, isBorder, pathOf } from "../model/subgraph";
import { camera } from "./camera";
import { compareActive } from "./compare";
import { download, drop, save, share } from "./files";
import { keysOf } from "./keys";
import { paintFor } from "./painting";
import { cancel, cancelAll, goOn, run } from "./running";
import { screen, toast, togglePanel } from "./screen";
import { refresh, server } from "./server";
import { settings } from "./settings";
import { addFromLibrary, goTo, SUBGRAPH_COMMANDS } from "./subgraphs";
import { active, change, closeTab, here, isDirty, newTab, openTab, redo, select, setTab, undo, workspace, type Tab } from "./workspace";

export interface Command {
  id: string;
  word: Word;
  /** as people read them: "Ctrl+Enter" */
  keys?: string;
  group: "run" | "edit" | "view" | "file" | "arrange";
  run: () => void;
}

export const GROUP_COLORS = ["#3f5e8c", "#4d7a5b", "#8a5a44", "#6d5490", "#8c4a62", "#5c6370"];
let clip: Clip | undefined;

function chosen(): string[] {
  return [...active().selected];
}

function chosenNodes(): string[] {
  const { nodes } = here();
  return chosen().filter((id) => id in nodes && !isBorder(id));
}

export function frames(ids: Iterable<string>): Map<string, Frame> {
  const doc = here();
  const { catalog } = server.get();
  const found = new Map<string, Frame>();
  for (const id of ids) {
    const node = doc.nodes[id];
    const part = node ? frameOf(catalog, node) : [...(doc.ui?.groups ?? []), ...(doc.ui?.notes ?? [])].find((one) => one.id === id);
    if (part) found.set(id, { x: part.x, y: part.y, width: part.width, height: part.height });
  }
  return found;
}

function copyChosen(): void {
  const made = copy(here(), active().selected);
  if (isEmpty(made)) return;
  clip = made;
  navigator.clipboard?.writeText(clipText(made)).catch(() => undefined); // refused by the browser: the clip is still here
}

function cut(): void {
  copyChosen();
  removeChosen();
}

export function removeChosen(): void {
  const { nodes } = here();
  const gone = new Set(chosen().filter((id) => !nodes[id]?.ui?.pinned && !isBorder(id)));
  if (gone.size) change(t("edit.delete"), (doc) => edit.remove(doc, gone));
  select([]);
}

export async function pasteHere(outside: boolean, text?: string): Promise<void> {
  const found = readClip(text ?? (await navigator.clipboard?.readText().catch(() => "")) ?? "") ?? clip;
  if (found) pasteClip(found, outside);
}

function pasteClip(found: Clip, outside: boolean): void {
  let made: string[] = [];
  change(t("edit.paste"), (doc) => {
    const [next, ids] = paste(doc, found, camera.pointer(), outside);
    made = ids;
    return next;
  });
  select(made);
}

function duplicate(): void {
  const made = copy(here(), active().selected);
  if (isEmpty(made)) return;
  const { x, y } = bounds([...frames(chosen()).values()]);
  let ids: string[] = [];
  change(t("edit.paste"), (doc) => {
    const [next, found] = paste(doc, made, { x: x + 40, y: y + 40 }, true);
    ids = found;
    return next;
  });
  select(ids);
}

function group(): void {
  const ids = chosen();
  const box = ids.length ? bounds([...frames(ids).values()]) : { ...camera.pointer(), width: 320, height: 200 };
  const color = GROUP_COLORS[(here().ui?.groups?.length ?? 0) % GROUP_COLORS.length]!;
  change(t("edit.group"), (doc) => edit.addGroup(doc, { x: box.x - 24, y: box.y - 56, width: box.width + 48, height: box.height + 80, title: t("group.new"), color })[0]);
}

function note(): void {
  change(t("edit.note"), (doc) => edit.addNote(doc, { ...camera.pointer(), width: 280, height: 140, text: "", color: "#8a7a3a" })[0]);
}

function line(side: Side): void {
  const places = align(frames(chosenNodes()), side);
  if (places.size) change(t("edit.align"), (doc) => edit.move(doc, places));
}

async function arrange(): Promise<void> {
  const { arrangement } = await import("../model/arrange");
  const tab = active();
  const ids = chosenNodes().length > 1 ? chosenNodes() : Object.keys(here(tab).nodes);
  const places = await arrangement(here(tab), frames(ids));
  if (active().id === tab.id && places.size) change(t("edit.layout"), (doc) => edit.move(doc, places));
  if (chosenNodes().length < 2) camera.fit();
}

function runHere(): void {
  const targets = chosenNodes().map((id) => pathOf(active().inside, id));
  if (!targets.length) toast(t("run.choose"));
  else void run({ targets });
}

/** A node that shows what the selected one gives, and a run that far. */
function look(): void {
  const [id] = chosenNodes();
  const doc = here();
  const output = id === undefined ? undefined : server.get().catalog.of(doc.nodes[id]!).outputs[0]?.name;
  if (id === undefined || output === undefined) return toast(t("run.choose"));
  const from = frames([id]).get(id)!;
  const place = freeBelow(doc, server.get().catalog, "data.show", { x: from.x + from.width + 60, y: from.y });
  let shown = "";
  change(t("edit.add"), (now) => {
    const [next, made] = edit.addNode(now, "data.show", place);
    shown = made;
    return edit.connect(next, id, output, made, "value");
  });
  select([shown]);
  void run({ targets: [pathOf(active().inside, shown)] });
}

function keepOutputs(): void {
  const { run: id } = active();
  const ids = chosenNodes();
  if (!id || !ids.length) toast(t("keep.choose"));
  else change(t("cmd.keep"), (doc) => edit.toggleKept(doc, ids, id));
}

function nudge(x: number, y: number): () => void {
  return () => {
    const places = new Map([...frames(chosen())].map(([id, frame]) => [id, { x: frame.x + x, y: frame.y + y }]));
    if (places.size) change(t("edit.move"), (doc) => edit.move(doc, places), "nudge");
  };
}

/** The title or text of what has the focus, or is selected, becomes a field; seen from afar or out of sight, one goes there first. */
function editWords(): void {
  const focused = document.activeElement?.closest<HTMLElement>(".react-flow__node")?.dataset["id"];
  const id = [focused, ...chosen()].find((one) => one !== undefined && !isBorder(one));
  if (id === undefined) return toast(t("words.choose"));
  if (!camera.sees(`[data-words="${CSS.escape(id)}"]`)) camera.fit([id]);
  screen.patch({ editing: id });
}

/** Everything in the selected groups too, for what is done to nodes. */
function withMembers(): string[] {
  const doc = here();
  const members = (doc.ui?.groups ?? []).filter((entry) => active().selected.has(entry.id)).flatMap((entry) => inside(doc, server.get().catalog, entry));
  return [...new Set([...chosenNodes(), ...members])];
}

export function newWorkflow(): void {
  openTab(newTab(emptyDoc(), t("untitled")));
}

/** Closed with work in them that was not saved, the last one at the end. */
const closed: Tab[] = [];
const CLOSED_KEPT = 20;

/** Nobody is asked: what was not saved can be had back. */
export function close(id: string): void {
  const tab = workspace.get().tabs.find((entry) => entry.id === id);
  if (!tab) return;
  closeTab(id);
  if (!isDirty(tab)) return;
  closed.splice(0, Math.max(0, closed.push(tab) - CLOSED_KEPT));
  toast(t("tab.closed", { name: tab.title }), "info", { action: { label: t("undo"), run: () => reopen(tab) } });
}

function reopen(tab: Tab | undefined = closed.at(-1)): void {
  if (!tab || !closed.includes(tab)) return toast(t("cmd.reopen.none"));
  closed.splice(closed.indexOf(tab), 1);
  openTab(tab);
}

function turnTab(step: number): () => void {
  return () => {
    const { tabs, active: now } = workspace.get();
    const index = tabs.findIndex((tab) => tab.id === now);
    workspace.patch({ active: tabs[(index + step + tabs.length) % tabs.length]!.id });
  };
}

export const COMMANDS: readonly Command[] = [
  { id: "run", word: "cmd.run", keys: "Ctrl+Enter", group: "run", run: () => void run() },
  { id: "run.front", word: "cmd.run.front", keys: "Ctrl+Shift+Enter", group: "run", run: () => void run({ priority: 100 }) },
  { id: "run.here", word: "cmd.run.here", keys: "Alt+Enter", group: "run", run: runHere },
  { id: "cancel", word: "cmd.cancel", keys: "Ctrl+Alt+Enter", group: "run", run: () => { const { run: id } = active(); if (id) void cancel(id); } },
  { id: "cancel.all", word: "cmd.cancel.all", group: "run", run: () => void cancelAll() },
  { id: "undo", word: "undo", keys: "Ctrl+Z", group: "edit", run: undo },
  { id: "redo", word: "redo", keys: "Ctrl+Y", group: "edit", run: redo },
  { id: "copy", word: "cmd.copy", keys: "Ctrl+C", group: "edit", run: copyChosen },
  { id: "cut", word: "cmd.cut", keys: "Ctrl+X", group: "edit", run: cut },
  { id: "paste", word: "cmd.paste", keys: "Ctrl+V", group: "edit", run: () => void pasteHere(false) },
  { id: "paste.links", word: "cmd.paste.links", keys: "Ctrl+Shift+V", group: "edit", run: () => void pasteHere(true) },
  { id: "duplicate", word: "cmd.duplicate", keys: "Ctrl+D", group: "edit", run: duplicate },
  { id: "delete", word: "cmd.delete", keys: "Delete", group: "edit", run: removeChosen },
  { id: "dissolve", word: "cmd.dissolve", keys: "Shift+Delete", group: "edit", run: () => { const ids = new Set(chosenNodes()); change(t("edit.delete"), (doc) => edit.removeKeepingLinks(doc, server.get().catalog, ids)); } },
  { id: "all", word: "cmd.all", keys: "Ctrl+A", group: "edit", run: () => { const doc = here(); select([...Object.keys(doc.nodes), ...(doc.ui?.groups ?? []).map((one) => one.id), ...(doc.ui?.notes ?? []).map((one) => one.id)]); } },
  { id: "add", word: "cmd.add", keys: "Tab", group: "edit", run: () => screen.patch({ search: { at: camera.middle(), place: camera.pointer() } }) },
  { id: "link", word: "cmd.link", keys: "K", group: "edit", run: () => screen.patch({ dialog: "link" }) },
  { id: "group", word: "cmd.group", keys: "Ctrl+G", group: "edit", run: group },
  { id: "note", word: "cmd.note", keys: "Shift+N", group: "edit", run: note },
  { id: "words", word: "cmd.words", keys: "F2", group: "edit", run: editWords },
  { id: "mute", word: "cmd.mute", keys: "Ctrl+M", group: "edit", run: () => change(t("edit.mode"), (doc) => edit.toggleMode(doc, withMembers(), "muted")) },
  { id: "bypass", word: "cmd.bypass", keys: "Ctrl+B", group: "edit", run: () => change(t("edit.mode"), (doc) => edit.toggleMode(doc, withMembers(), "bypassed")) },
  { id: "collapse", word: "cmd.collapse", keys: "Alt+C", group: "edit", run: () => change(t("edit.collapse"), (doc) => edit.toggleFlag(doc, withMembers(), "collapsed")) },
  { id: "pin", word: "cmd.pin", keys: "P", group: "edit", run: () => change(t("edit.pin"), (doc) => edit.toggleFlag(doc, withMembers(), "pinned")) },
  { id: "breakpoint", word: "cmd.breakpoint", keys: "Shift+B", group: "run", run: () => change(t("cmd.breakpoint"), (doc) => edit.toggleFlag(doc, chosenNodes(), "breakpoint")) },
  { id: "keep", word: "cmd.keep", keys: "Shift+K", group: "run", run: keepOutputs },
  { id: "continue", word: "cmd.continue", keys: "F8", group: "run", run: () => { const { run: id } = active(); if (id) void goOn(id); } },
  { id: "look", word: "cmd.look", keys: "Shift+V", group: "run", run: look },
  { id: "mask", word: "mask.paint", keys: "Shift+M", group: "edit", run: () => { const [id] = chosenNodes(); if (id) paintFor(id); else toast(t("mask.no.picture")); } },
  ...SUBGRAPH_COMMANDS,
  { id: "sweep", word: "cmd.sweep", keys: "Shift+S", group: "run", run: () => screen.patch({ sheet: { kind: "sweep" } }) },
  { id: "compare", word: "cmd.compare", keys: "Shift+D", group: "view", run: compareActive },
  { id: "arrange", word: "cmd.arrange", keys: "Shift+L", group: "arrange", run: () => void arrange() },
  { id: "left", word: "cmd.align.left", group: "arrange", run: () => line("left") },
  { id: "right", word: "cmd.align.right", group: "arrange", run: () => line("right") },
  { id: "top", word: "cmd.align.top", group: "arrange", run: () => line("top") },
  { id: "bottom", word: "cmd.align.bottom", group: "arrange", run: () => line("bottom") },
  { id: "spread.x", word: "cmd.spread.x", group: "arrange", run: () => line("spread-x") },
  { id: "spread.y", word: "cmd.spread.y", group: "arrange", run: () => line("spread-y") },
  { id: "move.left", word: "cmd.move.left", keys: "ArrowLeft", group: "arrange", run: nudge(-10, 0) },
  { id: "move.right", word: "cmd.move.right", keys: "ArrowRight", group: "arrange", run: nudge(10, 0) },
  { id: "move.up", word: "cmd.move.up", keys: "ArrowUp", group: "arrange", run: nudge(0, -10) },
  { id: "move.down", word: "cmd.move.down", keys: "ArrowDown", group: "arrange", run: nudge(0, 10) },
  { id: "fit", word: "cmd.fit", keys: ".", group: "view", run: () => camera.fit(chosenNodes()) },
  { id: "zoom.in", word: "cmd.zoom.in", keys: "Alt+=", group: "view", run: () => camera.zoom(1.25) },
  { id: "zoom.out", word: "cmd.zoom.out", keys: "Alt+-", group: "view", run: () => camera.zoom(0.8) },
  { id: "minimap", word: "cmd.minimap", keys: "Alt+Shift+M", group: "view", run: () => settings.patch({ minimap: !settings.get().minimap }) },
  { id: "links", word: "cmd.links", keys: "L", group: "view", run: () => settings.patch({ hideLinks: !settings.get().hideLinks }) },
  { id: "runs", word: "panel.runs", keys: "Q", group: "view", run: () => togglePanel("runs") },
  { id: "workflows", word: "panel.workflows", keys: "W", group: "view", run: () => togglePanel("workflows") },
  { id: "nodes", word: "panel.nodes", keys: "N", group: "view", run: () => togglePanel("nodes") },
  { id: "models", word: "panel.models", keys: "M", group: "view", run: () => togglePanel("models") },
  { id: "problems", word: "panel.problems", keys: "E", group: "view", run: () => togglePanel("problems") },
  { id: "chat", word: "panel.chat", keys: "C", group: "view", run: () => screen.patch({ chat: !screen.get().chat }) },
  { id: "refresh", word: "cmd.refresh", keys: "R", group: "view", run: () => void refresh().then(() => toast(t("cmd.refresh.done"), "done")) },
  { id: "new", word: "cmd.new", keys: "Alt+N", group: "file", run: newWorkflow },
  { id: "save", word: "cmd.save", keys: "Ctrl+S", group: "file", run: () => void save() },
  { id: "save.as", word: "cmd.save.as", keys: "Ctrl+Shift+S", group: "file", run: () => screen.patch({ dialog: "save" }) },
  { id: "open", word: "cmd.open", keys: "Ctrl+O", group: "file", run: () => screen.patch({ panel: "workflows" }) },
  { id: "download", word: "cmd.download", group: "file", run: download },
  { id: "share", word: "cmd.share", keys: "Alt+S", group: "file", run: () => void share() },
  { id: "close", word: "cmd.close", keys: "Alt+W", group: "file", run: () => close(active().id) },
  { id: "reopen", word: "cmd.reopen", keys: "Alt+Shift+W", group: "file", run: () => reopen() },
  { id: "tab.next", word: "cmd.tab.next", keys: "Alt+PageDown", group: "file", run: turnTab(1) },
  { id: "tab.previous", word: "cmd.tab.previous", keys: "Alt+PageUp", group: "file", run: turnTab(-1) },
  { id: "palette", word: "cmd.palette", keys: "Ctrl+K", group: "view", run: () => screen.patch({ dialog: "palette" }) },
  { id: "settings", word: "cmd.settings", keys: "Ctrl+,", group: "view", run: () => screen.patch({ dialog: "settings" }) },
  { id: "help", word: "cmd.help", keys: "?", group: "view", run: () => screen.patch({ dialog: "help" }) },
];

export function command(id: string): void {
  COMMANDS.find((entry) => entry.id === id)?.run();
}

const BY_KEYS = new Map(COMMANDS.filter((entry) => entry.keys).map((entry) => [entry.keys!, entry]));
/** Those that mean something to a text field or a page are left to it. */
const OF_BROWSER = new Set(["Ctrl+V", "Ctrl+Shift+V", "Ctrl+C", "Ctrl+X"]);

export function onKey(event: KeyboardEvent): void {
  const { dialog, viewing, painting, sheet } = screen.get();
  const found = BY_KEYS.get(keysOf(event));
  const target = event.target as HTMLElement;
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) || target.isContentEditable;
  if (!found || dialog || viewing || painting || event.defaultPrevented || (event.key === "Escape" && sheet)) return; // it closes the sheet first
  if (typing && !(event.ctrlKey || event.metaKey || event.altKey)) return;
  if (typing && /^Ctrl\+[ACVXZY]$/.test(found.keys!)) return;
  const onCanvas = target === document.body || target.closest(".canvas") !== null;
  if (!onCanvas && (found.keys === "Tab" || found.group === "arrange" || found.keys === "Delete")) return;
  if (found.keys === "Tab" && target.closest(".react-flow__node, .react-flow__edge, button")) return;
  if (OF_BROWSER.has(found.keys!) && getSelection()?.toString() && !onCanvas) return;
  if (found.id.startsWith("paste")) return; // the paste event brings the text without asking for leave
  event.preventDefault();
  found.run();
}

/** Enter with a modifier runs, wherever the focus is: a focused node would take it as a wish to be selected or not. Arrows with
Alt go into subgraphs and out of them; a node would move. */
export function onRunKey(event: KeyboardEvent): void {
  const arrow = event.altKey && event.key.startsWith("Arrow") && !/^(INPUT|TEXTAREA|SELECT)$/.test((event.target as HTMLElement).tagName);
  const enter = event.key === "Enter" && (event.ctrlKey || event.metaKey || event.altKey);
  const found = enter || arrow ? BY_KEYS.get(keysOf(event)) : undefined;
  if (!found || screen.get().dialog || screen.get().viewing || screen.get().painting) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  found.run();
}

let withLinks = false;

export function onPasteKey(event: KeyboardEvent): void {
  if (/^Ctrl\+(Shift\+)?V$/.test(keysOf(event))) withLinks = event.shiftKey;
}

export function onPaste(event: ClipboardEvent): void {
  const target = event.target as HTMLElement;
  if (/^(INPUT|TEXTAREA)$/.test(target.tagName) || screen.get().dialog) return;
  event.preventDefault();
  const files = [...(event.clipboardData?.files ?? [])];
  if (files.length) void drop(files, camera.pointer());
  else void pasteHere(withLinks, event.clipboardData?.getData("text/plain") ?? "");
}

/** A node by its path: the subgraph that it is in is entered. */
export function showNode(path: string): void {
  const ids = path.split("/");
  const id = ids.pop()!;
  const { depth } = follow(active().history.present, ids);
  if (depth < ids.length || active().inside.join("/") !== ids.join("/")) goTo(ids.slice(0, depth));
  select([ids[depth] ?? id]);
  requestAnimationFrame(() => camera.fit([ids[depth] ?? id]));
}

export function addAt(type: string, place: Point): string {
  if (type.startsWith("library:")) {
    void addFromLibrary(type, place);
    return "";
  }
  let made = "";
  change(t("edit.add"), (doc) => {
    const [next, id] = edit.addNode(doc, type, place);
    made = id;
    return next;
  });
  select([made]);
  return made;
}

export function setView(id: string, view: { x: number; y: number; zoom: number }): void {
  setTab(id, (tab) => (tab.view && tab.view.x === view.x && tab.view.y === view.y && tab.view.zoom === view.zoom ? tab : { ...tab, view }));
}
