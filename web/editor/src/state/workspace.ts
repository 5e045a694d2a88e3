/** Workspace: the open workflows. Each tab has its document with its past, and what is selected in it. */

import { t } from "../i18n/t";
import { emptyDoc, type Doc } from "../model/document";
import * as past from "../model/history";
import { same } from "../model/json";
import { put, view } from "../model/scope";
import { follow, recursion, type Path } from "../model/subgraph";
import { toast } from "./screen";
import { server } from "./server";
import { Store } from "./store";

export interface View {
  x: number;
  y: number;
  zoom: number;
}
export interface Tab {
  id: string;
  /** under which it is kept on the server; null: nowhere yet */
  name: string | null;
  title: string;
  history: past.History<Doc>;
  /** as it is on the server, or as it was opened */
  saved: Doc | null;
  /** what identifies the content on the server that `saved` is; undefined: not known */
  etag?: string;
  selected: ReadonlySet<string>;
  view: View | null;
  /** the run that is shown on the nodes */
  run: string | null;
  /** the instances of subgraphs that were entered, and the views that one comes back to */
  inside: Path;
  views: readonly (View | null)[];
}
export interface Workspace {
  tabs: readonly Tab[];
  active: string;
}

let count = 0;

export function newTab(doc: Doc, title: string, more: Partial<Tab> = {}): Tab {
  const id = `${Date.now().toString(36)}-${++count}`;
  return { id, name: null, title, history: past.history(doc), saved: doc, selected: new Set(), view: null, run: null, inside: [], views: [], ...more };
}

const first = newTab(emptyDoc(), "Untitled");
export const workspace = new Store<Workspace>({ tabs: [first], active: first.id });

export function activeOf(space: Workspace): Tab {
  return space.tabs.find((tab) => tab.id === space.active) ?? space.tabs[0]!;
}

export function active(): Tab {
  return activeOf(workspace.get());
}

export function setTab(id: string, change: (tab: Tab) => Tab): void {
  workspace.set((space) => {
    let moved = false;
    const tabs = space.tabs.map((tab) => {
      if (tab.id !== id) return tab;
      const next = change(tab);
      moved ||= next !== tab;
      return next;
    });
    return moved ? { ...space, tabs } : space;
  });
}

/** What is on the canvas: the workflow of a tab, or the subgraph that was entered. */
export function here(tab: Tab = active()): Doc {
  return view(tab.history.present, tab.inside);
}

/** Change what is on the canvas of the active tab, as one step that can be undone. */
export function change(label: string, edit: (doc: Doc) => Doc, key = ""): void {
  const tab = active();
  const before = here(tab);
  const after = edit(before);
  if (after === before) return;
  const doc = put(tab.history.present, tab.inside, after, server.get().catalog);
  if (tab.inside.length && recursion(doc) !== undefined) toast(t("sub.recursion"), "error", { remedy: t("sub.recursion.remedy") });
  else changeWhole(label, () => doc, key);
}

/** The same of the whole workflow, wherever one is in it. */
export function changeWhole(label: string, edit: (doc: Doc) => Doc, key = ""): void {
  const tab = active();
  const doc = edit(tab.history.present);
  if (doc !== tab.history.present) setTab(tab.id, (now) => keep({ ...now, history: past.push(now.history, doc, label, key) }));
}

/** Change it without a step: what follows from a step that was made already. */
export function amend(id: string, edit: (doc: Doc) => Doc): void {
  setTab(id, (tab) => ({ ...tab, history: past.replace(tab.history, edit(tab.history.present)) }));
}

export function undo(): void {
  setTab(active().id, (tab) => keep({ ...tab, history: past.undo(tab.history) }));
}

export function redo(): void {
  setTab(active().id, (tab) => keep({ ...tab, history: past.redo(tab.history) }));
}

/** Only what is still there stays entered and selected. */
function keep(before: Tab): Tab {
  const { depth } = follow(before.history.present, before.inside);
  const tab = depth === before.inside.length ? before : { ...before, inside: before.inside.slice(0, depth), views: before.views.slice(0, depth), view: before.views[depth] ?? null };
  const doc = here(tab);
  const parts = new Set([...(doc.ui?.groups ?? []), ...(doc.ui?.notes ?? [])].map((part) => part.id));
  const there = (id: string): boolean => id in doc.nodes || parts.has(id);
  return [...tab.selected].every(there) ? tab : { ...tab, selected: new Set([...tab.selected].filter(there)) };
}

export function select(ids: Iterable<string>): void {
  setTab(active().id, (tab) => ({ ...tab, selected: new Set(ids) }));
}

export function openTab(tab: Tab): void {
  workspace.set((space) => {
    const current = activeOf(space);
    const untouched = !current.name && !Object.keys(current.history.present.nodes).length && !current.history.past.length;
    const rest = untouched && space.tabs.length === 1 ? [] : space.tabs;
    return { tabs: [...rest, tab], active: tab.id };
  });
}

export function closeTab(id: string): void {
  workspace.set((space) => {
    const index = space.tabs.findIndex((tab) => tab.id === id);
    let tabs = space.tabs.filter((tab) => tab.id !== id);
    if (!tabs.length) tabs = [newTab(emptyDoc(), "Untitled")];
    const next = space.active === id ? tabs[Math.min(index, tabs.length - 1)]! : activeOf(space);
    return { tabs, active: next.id };
  });
}

/** Is there anything that closing the tab would lose? The place on the screen is no such thing. */
export function isDirty(tab: Tab): boolean {
  const doc = tab.history.present;
  if (doc === tab.saved) return false;
  if (!tab.saved) return Object.keys(doc.nodes).length > 0;
  return !same(doc, tab.saved);
}

/** What its runs are called; the server takes no longer names. */
export function runName(tab: Tab): string {
  return [...(tab.history.present.title || titleOf(tab))].slice(0, 200).join("");
}

export function titleOf(tab: Tab): string {
  return tab.name?.split("/").pop() ?? tab.title;
}
