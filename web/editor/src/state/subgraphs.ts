/** Subgraphs: make, enter, leave, unpack, publish. */

import { ApiError, get, send } from "../api/http";
import { t } from "../i18n/t";
import { addPublished, publication } from "../model/adopt";
import { Definitions } from "../model/defined";
import { toDoc, type Doc, type Point } from "../model/document";
import { between, detach, enclose, unpack } from "../model/enclose";
import { promote, promotedAs, unpromote } from "../model/expose";
import { definitionOf, follow, isBorder, type Path } from "../model/subgraph";
import type { Command } from "./commands";
import { screen, toast } from "./screen";
import { learnWorkflows, server, tell } from "./server";
import { settings } from "./settings";
import { active, activeOf, change, changeWhole, here, select, setTab, workspace, type Tab } from "./workspace";

const definitions = new Definitions();

/** The catalog follows the active workflow: what it defines, and what the library publishes, are node types too. */
function learn(): void {
  const { catalog, workflows } = server.get();
  const doc = activeOf(workspace.get()).history.present;
  const titles = { inputs: t("sub.inputs"), outputs: t("sub.outputs"), category: t("sub.category"), library: t("sub.library") };
  const next = definitions.catalogFor(catalog.base ?? catalog, doc, workflows, titles);
  if (next !== catalog) server.patch({ catalog: next });
}
workspace.subscribe(learn);
server.subscribe(learn);
settings.subscribe(learn);

/** Go to the subgraph that these instances lead to, [] for the workflow itself. */
export function goTo(path: Path): void {
  setTab(active().id, (tab) => {
    const shared = Math.min(path.length, tab.inside.length);
    let depth = 0;
    while (depth < shared && path[depth] === tab.inside[depth]) depth++;
    if (depth === path.length && depth === tab.inside.length) return tab;
    const seen = [...tab.views, tab.view];
    const views = [...seen.slice(0, depth + 1), ...path.slice(depth).map(() => null)].slice(0, path.length);
    const back = depth === path.length; // upwards: to the view that was left
    const selected = back ? tab.inside.slice(depth, depth + 1) : [];
    return { ...tab, inside: path, views, view: back ? (seen[depth] ?? null) : null, selected: new Set(selected) };
  });
}

export function enter(id: string): void {
  const { inside, history: { present } } = active();
  const path = [...inside, id];
  if (follow(present, path).depth === path.length) goTo(path);
}

export function leave(): void {
  const { inside } = active();
  if (inside.length) goTo(inside.slice(0, -1));
}

/** The subgraph that one is in. */
export function current(tab: Tab = active()): string | undefined {
  return follow(tab.history.present, tab.inside).name;
}

function chosenInstance(): string | undefined {
  const { nodes } = here();
  return [...active().selected].find((id) => definitionOf(nodes[id]) !== undefined);
}

function make(): void {
  const { catalog } = server.get();
  const doc = here();
  const ids = new Set([...active().selected].filter((id) => !isBorder(id)));
  const blocking = between(doc, ids);
  if (blocking !== undefined) {
    toast(t("sub.between", { node: doc.nodes[blocking]?.title || blocking }), "error", { remedy: t("sub.between.remedy") });
    return;
  }
  let made = "";
  change(t("cmd.sub.make"), (now) => {
    const [next, id] = enclose(now, catalog, ids, t("sub.new"));
    made = id;
    return next;
  });
  if (made) select([made]);
  else toast(t("sub.choose"));
}

function unpackChosen(): void {
  const id = chosenInstance();
  if (id === undefined) {
    toast(t("sub.choose.instance"));
    return;
  }
  let ids: string[] = [];
  change(t("cmd.sub.unpack"), (doc) => {
    const [next, found] = unpack(doc, server.get().catalog, id);
    ids = found;
    return next;
  });
  select(ids);
}

/** The definition that is meant: of the chosen instance, else of where one is. */
export function meant(): string | undefined {
  const id = chosenInstance();
  return id === undefined ? current() : definitionOf(here().nodes[id]);
}

/** Into the library, under its title; an earlier one of that name stays as a version. */
export async function publish(): Promise<void> {
  const name = meant();
  const doc = active().history.present;
  if (name === undefined || !doc.subgraphs?.[name]) {
    toast(t("sub.choose.instance"));
    return;
  }
  const file = publication(doc, name);
  const title = (file.title ?? name).replace(/[^\p{L}\p{N}_ -]/gu, "_").replace(/^[ .]+|[ .]+$/g, "").slice(0, 80) || name;
  try {
    await send("PUT", "/api/v1/documents/{name}", { name: `subgraphs/${title}` }, file);
    await learnWorkflows();
    toast(t("sub.published", { name: title }), "done");
  } catch (error) {
    tell(error);
  }
}

/** An instance of what the library publishes, with its definition; then what `more` makes of it. */
export async function addFromLibrary(type: string, place: Point, more: (doc: Doc, id: string) => Doc = (doc) => doc): Promise<string> {
  const name = type.replace(/^library:/, "");
  let made = "";
  try {
    const other = toDoc(await get<unknown>("/api/v1/documents/{name}", { name }));
    change(t("edit.add"), (doc) => {
      const [next, id] = addPublished(doc, other, place);
      made = id;
      return id ? more(next, id) : next;
    });
    if (made) select([made]);
  } catch (error) {
    if (error instanceof ApiError) tell(error);
    else toast(error instanceof Error ? error.message : String(error), "error");
  }
  return made;
}

/** Of a node within: show that input at the instances, or not any more. */
export function togglePromoted(id: string, input: string): void {
  const name = current();
  if (name === undefined) return;
  const exposed = promotedAs(here().nodes[id], input);
  if (exposed !== undefined) changeWhole(t("sub.unpromote.step"), (doc) => unpromote(doc, name, exposed));
  else changeWhole(t("sub.promote.step"), (doc) => promote(doc, server.get().catalog, name, id, input));
}

export const SUBGRAPH_COMMANDS: readonly Command[] = [
  { id: "sub.make", word: "cmd.sub.make", keys: "Ctrl+Shift+E", group: "edit", run: make },
  { id: "sub.enter", word: "cmd.sub.enter", keys: "Alt+ArrowDown", group: "view", run: () => { const id = chosenInstance(); if (id !== undefined) enter(id); } },
  { id: "sub.leave", word: "cmd.sub.leave", keys: "Alt+ArrowUp", group: "view", run: leave },
  { id: "sub.unpack", word: "cmd.sub.unpack", keys: "Ctrl+Shift+U", group: "edit", run: unpackChosen },
  { id: "sub.detach", word: "cmd.sub.detach", group: "edit", run: () => { const id = chosenInstance(); if (id !== undefined) change(t("cmd.sub.detach"), (doc) => detach(doc, id)); } },
  { id: "sub.ports", word: "cmd.sub.ports", group: "edit", run: () => { if (meant() === undefined) toast(t("sub.choose.instance")); else screen.patch({ dialog: "subgraph" }); } },
  { id: "sub.publish", word: "cmd.sub.publish", group: "file", run: () => void publish() },
];
