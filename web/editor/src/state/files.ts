/** Files: workflows out of and into files and the server's library; media into the input folder. */

import { ApiError, exchange, fetchFile, get, sendFile, upload } from "../api/http";
import type { File as ApiFile } from "../api/schema";
import { t } from "../i18n/t";
import { DocumentRefused, readDoc, toDoc, type Doc, type Point } from "../model/document";
import { addNode, move, setValue } from "../model/edit";
import { dumpJson, same } from "../model/json";
import { push } from "../model/history";
import type { Input } from "../model/nodetype";
import { frameOf, settle } from "../model/shape";
import { nameOf } from "./dragged";
import { noteUse } from "./library";
import { screen, toast, type Conflict, type Picture } from "./screen";
import { learnWorkflows, server, tell } from "./server";
import { active, change, here, isDirty, newTab, openTab, select, setTab, titleOf, workspace } from "./workspace";

/** As it is opened: with nothing on top of anything else. */
function laidOut(doc: Doc): Doc {
  const { catalog } = server.get();
  const places = settle(new Map(Object.entries(doc.nodes).map(([id, node]) => [id, frameOf(catalog, node)])));
  return places.size ? move(doc, places) : doc;
}

export async function openNamed(name: string): Promise<void> {
  noteUse(name);
  const open = workspace.get().tabs.find((tab) => tab.name === name);
  if (open && !isDirty(open)) {
    workspace.patch({ active: open.id });
    return;
  }
  try {
    const { value, etag } = await exchange<unknown>("GET", "/api/v1/documents/{name}", { name });
    const doc = laidOut(toDoc(value));
    openTab(newTab(doc, doc.title || name, { name, etag }));
  } catch (error) {
    refuse(error, name);
  }
}

export function openText(text: string, title: string): boolean {
  try {
    const doc = laidOut(readDoc(text));
    openTab(newTab(doc, doc.title || title, { saved: null }));
    return true;
  } catch (error) {
    refuse(error, title);
    return false;
  }
}

function refuse(error: unknown, name: string): void {
  if (error instanceof DocumentRefused) toast(`${name}: ${error.message}`, "error", { remedy: error.remedy });
  else tell(error);
}

/**
 * Keep the active workflow. The server is told which content this one rests on; where it has another by now, nothing is written
 * and the person is asked.
 */
export async function save(as?: string): Promise<void> {
  const tab = active();
  const name = as ?? tab.name;
  const entry = server.get().workflows.find((one) => one.name === name);
  if (!name || (entry && !entry.writable && !as)) {
    screen.patch({ dialog: "save" });
    return;
  }
  const known = tab.name === name ? (tab.etag ?? (await etagOf(name, tab.saved))) : undefined;
  await write(tab.id, name, known ? { "If-Match": known } : { "If-None-Match": "*" });
}

/** A tab of before ETags were kept: what the server has is what it rests on, if it is the same. */
async function etagOf(name: string, saved: Doc | null): Promise<string | undefined> {
  const there = await exchange<unknown>("GET", "/api/v1/documents/{name}", { name }).catch(() => undefined);
  return there && same(there.value, saved) ? there.etag : undefined;
}

async function write(id: string, name: string, condition: Record<string, string>): Promise<void> {
  const doc = workspace.get().tabs.find((tab) => tab.id === id)?.history.present;
  if (!doc) return;
  try {
    const { etag } = await exchange("PUT", "/api/v1/documents/{name}", { name }, doc, condition);
    setTab(id, (now) => ({ ...now, name, title: titleOf({ ...now, name }), saved: doc, etag }));
    toast(t("save.done", { name }), "done");
    await learnWorkflows();
  } catch (error) {
    if (error instanceof ApiError && error.status === 412) screen.patch({ dialog: "conflict", conflict: { tab: id, name } });
    else tell(error);
  }
}

/** Of two versions mine: theirs stays among the versions. */
export function keepMine({ tab, name }: Conflict): Promise<void> {
  return write(tab, name, {});
}

/** Of two versions theirs: mine can be had back by undoing. */
export async function takeTheirs({ tab, name }: Conflict): Promise<void> {
  try {
    const { value, etag } = await exchange<unknown>("GET", "/api/v1/documents/{name}", { name });
    const doc = laidOut(toDoc(value));
    setTab(tab, (now) => ({ ...now, name, title: titleOf({ ...now, name }), history: push(now.history, doc, t("conflict.theirs"), ""), saved: doc, etag, selected: new Set() }));
  } catch (error) {
    refuse(error, name);
  }
}

export function download(): void {
  hand(new Blob([dumpJson(active().history.present, 2)], { type: "application/json" }), ".json");
}

/** The active workflow and the files that it reads, as one file. */
export async function share(): Promise<void> {
  try {
    hand(await fetchFile("/api/v1/parcels", { document: active().history.present, name: titleOf(active()) }), PARCEL);
  } catch (error) {
    tell(error);
  }
}

/** To the person, as a download named after the active tab. */
function hand(content: Blob, suffix: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = `${titleOf(active()).replace(/[^\p{L}\p{N} _-]/gu, "_") || "workflow"}${suffix}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A shared workflow: its files are brought in, those that are there already are not. */
async function openParcel(file: File): Promise<void> {
  try {
    const { document, files } = await sendFile<{ document: unknown; files: ApiFile[] }>("/api/v1/parcels/open", file, "application/zip");
    const doc = laidOut(toDoc(document));
    openTab(newTab(doc, doc.title || file.name.replace(/\.\w+$/, ""), { saved: null }));
    toast(t("share.opened", { files: files.length, known: files.filter((one) => one.existing).length }), "done");
  } catch (error) {
    refuse(error, file.name);
  }
}

export async function bringIn(files: readonly File[]): Promise<ApiFile[]> {
  try {
    return (await upload<{ files: ApiFile[] }>(files)).files;
  } catch (error) {
    tell(error);
    return [];
  }
}

const LOADERS: Record<string, string> = { image: "media.load_image", audio: "media.load_audio", video: "media.load_video", text: "media.load_text" };
const JSON_LIMIT = 16 << 20;
const PARCEL = ".anyloom";

/** Files that were dropped: workflows and media that carry one are opened, other media become a load node. */
export async function drop(files: readonly File[], place: Point): Promise<void> {
  let offset = 0;
  for (const file of files) {
    if (file.name.endsWith(".json") || file.type === "application/json") {
      if (file.size > JSON_LIMIT) toast(t("drop.large", { name: file.name }), "error");
      else openText(await file.text(), file.name.replace(/\.json$/, ""));
      continue;
    }
    if (file.name.endsWith(PARCEL) || file.name.endsWith(".zip")) {
      await openParcel(file);
      continue;
    }
    const [there] = await bringIn([file]);
    if (!there) continue;
    const carried = await embedded(there);
    if (carried) {
      openTab(newTab(carried, carried.title || file.name, { saved: null }));
      toast(t("drop.workflow", { name: file.name }), "done");
    } else addLoader(there, { x: place.x + offset, y: place.y + offset });
    offset += 30;
  }
}

async function embedded(file: ApiFile): Promise<Doc | undefined> {
  try {
    const { document } = await get<{ document: unknown }>("/api/v1/embedded/{folder}/{name}", { folder: file.folder, name: file.name });
    return laidOut(toDoc(document));
  } catch (error) {
    if (error instanceof DocumentRefused) toast(error.message, "error", { remedy: error.remedy });
    else if (!(error instanceof ApiError && error.status === 404)) tell(error);
    return undefined;
  }
}

export function addLoader(file: Picture & { media_type: string }, place: Point): void {
  const type = LOADERS[file.media_type.split("/")[0] ?? ""];
  if (!type || !server.get().catalog.types.has(type)) {
    toast(t("drop.unknown", { name: file.name }), "error");
    return;
  }
  let added = "";
  change(t("edit.add"), (doc) => {
    const [next, id] = addNode(doc, type, place);
    added = id;
    return setValue(next, id, "file", nameOf(file));
  });
  select([added]);
}

/** A file of the server that was dropped: on a node it is what that loads, if it can; on the bare canvas it becomes a load node. */
export function dropFile(file: Picture & { media_type: string }, place: Point, over?: string): void {
  if (over === undefined) return addLoader(file, place);
  const node = here().nodes[over];
  const field = node && server.get().catalog.of(node).inputs.find((input) => loads(input, file.media_type) && !node.links?.[input.name]);
  if (field) change("value", (doc) => setValue(doc, over, field.name, nameOf(file)));
}

function loads({ widget, as_list }: Input, media_type: string): boolean {
  return !as_list && widget?.upload !== undefined && (widget.upload === "*" || media_type.startsWith(widget.upload));
}
