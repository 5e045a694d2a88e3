/**
 * Recovery: what is open, kept in this browser after every change, so that no crash and no closed window loses work. Every
 * window keeps its own tabs under a name of its own; what a window left that is not there any more goes to the next one.
 */

import { toDoc, type Doc } from "../model/document";
import { dumpJson, isObject, parseJson } from "../model/json";
import { readTalk, talks } from "./chat";
import { toast } from "./screen";
import { isDirty, newTab, workspace, type Tab } from "./workspace";
import { t } from "../i18n/t";

const BASE = "anyloom";
const STORE = "workspace";
const WAIT_MS = 400;
/** sessionStorage, which outlives a reload but not the window, has the window's name under this one */
const NAME = "anyloom.window";
/** for other windows to say that they are there */
const ANSWER_MS = 120;

let base: IDBDatabase | undefined;

async function openBase(): Promise<IDBDatabase> {
  const made = await new Promise<IDBDatabase>((resolve, reject) => {
    const request = indexedDB.open(BASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("no database"));
  });
  made.onclose = () => (base = undefined);
  return (base = made);
}

/** Asked at once where the base is open already: a page that is being left does not wait for it. */
async function inStore<T>(mode: IDBTransactionMode, work: (store: IDBObjectStore) => T): Promise<T> {
  const transaction = (base ?? (await openBase())).transaction(STORE, mode);
  const made = work(transaction.objectStore(STORE));
  return new Promise<T>((resolve, reject) => {
    transaction.oncomplete = () => resolve(made);
    transaction.onerror = () => reject(transaction.error ?? new Error("not kept"));
    transaction.onabort = () => reject(transaction.error ?? new Error("storage is full"));
    if (mode === "readwrite") transaction.commit();
  });
}

/** What each window kept: window -> text. */
async function kept(): Promise<Map<string, string>> {
  const [keys, texts] = await inStore("readonly", (store) => [store.getAllKeys(), store.getAll()] as const);
  return new Map(keys.result.flatMap((key, index) => (typeof texts.result[index] === "string" ? [[String(key), texts.result[index]]] : [])));
}

/** The names of the other windows that are there, this one's if it was copied with its storage. */
async function others(channel: BroadcastChannel): Promise<Set<string>> {
  const found = new Set<string>();
  const hear = ({ data }: MessageEvent<{ here?: string }>): void => void (data.here && found.add(data.here));
  channel.addEventListener("message", hear);
  channel.postMessage({ ask: true });
  await new Promise((resolve) => setTimeout(resolve, ANSWER_MS));
  channel.removeEventListener("message", hear);
  return found;
}

/** What cannot be read here, by a newer Anyloom perhaps, is kept as it is. */
const unread: unknown[] = [];

export function asText(tabs: readonly Tab[], active: string): string {
  return dumpJson({
    active,
    kept: Date.now(),
    unread: unread.length ? unread : undefined,
    tabs: tabs.map(({ id, name, title, history, saved, etag, view, views, run }) => ({ id, name, title, etag, doc: history.present, saved: saved === history.present ? true : saved, view: views.length ? views[0] : view, run, talk: talks.get()[id] })),
  });
}

interface Kept {
  tabs: Tab[];
  active: string;
  kept: number;
}

/** The tabs in a text; what cannot be read goes to `unread`. */
export function ofText(text: string): Kept | undefined {
  const value = parseJson(text);
  if (!isObject(value) || !Array.isArray(value["tabs"])) return undefined;
  const tabs: Tab[] = [];
  for (const entry of [...(value["tabs"] as unknown[]), ...(Array.isArray(value["unread"]) ? (value["unread"] as unknown[]) : [])]) {
    if (!isObject(entry)) continue;
    try {
      const doc = toDoc(entry["doc"]);
      const saved = entry["saved"] === true ? doc : entry["saved"] ? (entry["saved"] as Doc) : null;
      const { id, name, etag, view, run } = entry as unknown as Tab;
      const talk = readTalk(entry["talk"]);
      if (talk) talks.set((now) => ({ ...now, [id]: talk }));
      tabs.push(newTab(doc, String(entry["title"] ?? ""), { id, name, saved, etag, view, run: run ?? null }));
    } catch {
      unread.push(entry); // one broken tab does not lose the others
    }
  }
  return { tabs, active: String(value["active"]), kept: Number(value["kept"] ?? 0) };
}

/** Of several windows: every tab with work in it, and of the rest each workflow once. */
export function together(windows: readonly Kept[]): Tab[] {
  const found: Tab[] = [];
  for (const tab of windows.flatMap((one) => one.tabs)) {
    const clean = !isDirty(tab);
    if (found.some((other) => other.id === tab.id && asText([other], "") === asText([tab], ""))) continue;
    if (clean && (tab.name === null ? !Object.keys(tab.history.present.nodes).length : found.some((other) => other.name === tab.name))) continue;
    found.push(found.some((other) => other.id === tab.id) ? { ...tab, id: `${tab.id}'` } : tab);
  }
  return found;
}

function freshName(): string {
  return `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}`;
}

/** What this window goes on with, its name, and the windows that it takes over. */
async function find(channel: BroadcastChannel): Promise<{ name: string; found: { tabs: Tab[]; active: string } | undefined; over: string[] }> {
  const texts = await kept();
  const before = sessionStorage.getItem(NAME);
  const read = (name: string): Kept[] => {
    try {
      return [ofText(texts.get(name) ?? "null") ?? []].flat();
    } catch {
      return [];
    }
  };
  const [navigation] = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
  const mine = before !== null && texts.has(before);
  if (mine && navigation?.type === "reload") return { name: before, found: read(before)[0], over: [] };
  const there = texts.size ? await others(channel) : new Set<string>();
  if (mine) return { name: there.has(before) ? freshName() : before, found: read(before)[0], over: [] }; // a window that was copied shows the same
  const over = [...texts.keys()].filter((name) => !there.has(name));
  const windows = over.flatMap(read).sort((a, b) => b.kept - a.kept);
  return { name: freshName(), found: windows[0] && { tabs: together(windows), active: windows[0].active }, over };
}

let full = false;

/** Restore what was open, then keep it up to date. */
export async function recover(): Promise<boolean> {
  const channel = new BroadcastChannel(NAME);
  const { name, found, over } = await find(channel).catch(() => ({ name: freshName(), found: undefined, over: [] as string[] })); // no storage: there is nothing, and nothing is kept
  channel.onmessage = ({ data }: MessageEvent<{ ask?: boolean }>) => data.ask && channel.postMessage({ here: name });
  try {
    sessionStorage.setItem(NAME, name);
  } catch {
    // a full storage: after a reload this is a new window, which takes over what this one left
  }
  if (found?.tabs.length) workspace.set({ tabs: found.tabs, active: found.tabs.some((tab) => tab.id === found.active) ? found.active : found.tabs[0]!.id });
  let timer: ReturnType<typeof setTimeout> | undefined;
  let rest = over;
  const save = (): void => {
    const { tabs, active } = workspace.get();
    const text = asText(tabs, active);
    inStore("readwrite", (store) => {
      store.put(text, name);
      for (const gone of rest) store.delete(gone);
    }).then(
      () => {
        full = false;
        rest = [];
      },
      () => {
        if (!full) toast(t("recovery.full"), "error", { remedy: t("recovery.full.remedy") });
        full = true;
      },
    );
  };
  if (over.length) save();
  const soon = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => ("requestIdleCallback" in window ? requestIdleCallback(save, { timeout: 2000 }) : save()), WAIT_MS);
  };
  workspace.subscribe(soon);
  talks.subscribe(soon);
  addEventListener("pagehide", save);
  return found !== undefined;
}
