/** The library as this browser uses it: which workflows are opened how much, and what they look like. */

import { exchange, get } from "../api/http";
import { toDoc, type Doc } from "../model/document";
import { used, type Uses } from "../model/library";
import { dumpJson } from "../model/json";
import { filesOf, type FileRef } from "./run";
import { learnWorkflows, server, tell } from "./server";
import { Store } from "./store";
import { setTab, workspace } from "./workspace";

const KEY = "anyloom.uses";

export const uses = new Store<Uses>(read());

function read(): Uses {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}") as Uses;
  } catch {
    return {};
  }
}

export function noteUse(name: string): void {
  uses.set((now) => used(now, name, Date.now()));
  try {
    localStorage.setItem(KEY, dumpJson(uses.get()));
  } catch {
    // a full storage: the order is that of before
  }
}

const outlines = new Map<string, Promise<Doc | undefined>>();

/** The workflow, for a drawing of it; asked for once as long as it does not change. */
export function outlineOf(name: string, modified: number | undefined): Promise<Doc | undefined> {
  const key = `${name} ${modified ?? 0}`;
  let found = outlines.get(key);
  if (!found) outlines.set(key, (found = get<unknown>("/api/v1/documents/{name}", { name }).then(toDoc).catch(() => undefined)));
  return found;
}

/** The picture or film that the latest run of that title made. */
export function lastResult(title: string): FileRef | undefined {
  if (!title) return undefined;
  for (const run of server.get().history) {
    if (run.name !== title) continue;
    const seen = Object.values(run.result).flatMap((outputs) => filesOf(outputs)).find((file) => /^(image|video)\//.test(file.media_type));
    if (seen) return seen;
  }
  return undefined;
}

/** Another name, or another folder. What is there under the new name is not written over. */
export async function rename(from: string, to: string): Promise<void> {
  const name = to.trim().replace(/\/{2,}/g, "/").replace(/^\/|\/$/g, "");
  if (!name || name === from) return;
  try {
    const before = await exchange<unknown>("GET", "/api/v1/documents/{name}", { name: from });
    const { etag } = await exchange("PUT", "/api/v1/documents/{name}", { name }, before.value, { "If-None-Match": "*" });
    await exchange("DELETE", "/api/v1/documents/{name}", { name: from }, undefined, { "If-Match": before.etag });
    for (const tab of workspace.get().tabs) if (tab.name === from) setTab(tab.id, (now) => ({ ...now, name, etag }));
  } catch (error) {
    tell(error);
  }
  await learnWorkflows();
}
