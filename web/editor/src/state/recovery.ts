/** Recovery: what is open, kept in this browser after every change, so that no crash and no closed tab loses work. */

import { toDoc, type Doc } from "../model/document";
import { dumpJson, isObject, parseJson } from "../model/json";
import { toast } from "./screen";
import { newTab, workspace, type Tab } from "./workspace";
import { t } from "../i18n/t";

const BASE = "anyloom";
const STORE = "workspace";
const WAIT_MS = 400;
const MINE = "open";

function open(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(BASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("no database"));
  });
}

async function keep(text: string): Promise<void> {
  const base = await open();
  await new Promise<void>((resolve, reject) => {
    const writing = base.transaction(STORE, "readwrite");
    writing.objectStore(STORE).put(text, MINE);
    writing.oncomplete = () => resolve();
    writing.onerror = () => reject(writing.error ?? new Error("not kept"));
    writing.onabort = () => reject(writing.error ?? new Error("storage is full"));
  });
  base.close();
}

async function kept(): Promise<string | undefined> {
  const base = await open();
  const text = await new Promise<unknown>((resolve, reject) => {
    const request = base.transaction(STORE).objectStore(STORE).get(MINE);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("not read"));
  });
  base.close();
  return typeof text === "string" ? text : undefined;
}

export function asText(tabs: readonly Tab[], active: string): string {
  return dumpJson({
    active,
    tabs: tabs.map(({ id, name, title, history, saved, etag, view, views, run }) => ({ id, name, title, etag, doc: history.present, saved: saved === history.present ? true : saved, view: views.length ? views[0] : view, run })),
  });
}

/** The tabs in a text; those that cannot be read are left out. */
export function ofText(text: string): { tabs: Tab[]; active: string } | undefined {
  const value = parseJson(text);
  if (!isObject(value) || !Array.isArray(value["tabs"])) return undefined;
  const tabs: Tab[] = [];
  for (const entry of value["tabs"] as unknown[]) {
    if (!isObject(entry)) continue;
    try {
      const doc = toDoc(entry["doc"]);
      const saved = entry["saved"] === true ? doc : entry["saved"] ? (entry["saved"] as Doc) : null;
      const { id, name, etag, view, run } = entry as unknown as Tab;
      tabs.push(newTab(doc, String(entry["title"] ?? ""), { id, name, saved, etag, view, run: run ?? null }));
    } catch {
      // one broken tab does not lose the others
    }
  }
  return tabs.length ? { tabs, active: String(value["active"]) } : undefined;
}

let full = false;

/** Restore what was open, then keep it up to date. */
export async function recover(): Promise<boolean> {
  let found: ReturnType<typeof ofText>;
  try {
    const text = await kept();
    found = text === undefined ? undefined : ofText(text);
  } catch {
    found = undefined;
  }
  if (found) workspace.set({ tabs: found.tabs, active: found.tabs.some((tab) => tab.id === found.active) ? found.active : found.tabs[0]!.id });
  let timer: ReturnType<typeof setTimeout> | undefined;
  const save = (): void => {
    const { tabs, active } = workspace.get();
    keep(asText(tabs, active)).then(
      () => (full = false),
      () => {
        if (!full) toast(t("recovery.full"), "error", { remedy: t("recovery.full.remedy") });
        full = true;
      },
    );
  };
  workspace.subscribe(() => {
    clearTimeout(timer);
    timer = setTimeout(() => ("requestIdleCallback" in window ? requestIdleCallback(save, { timeout: 2000 }) : save()), WAIT_MS);
  });
  addEventListener("pagehide", save);
  return found !== undefined;
}
