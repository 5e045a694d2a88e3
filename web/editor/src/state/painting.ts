/** Painting: which mask is painted over which picture, and what becomes of it: a file, and a node that reads it. */

import { t } from "../i18n/t";
import { links, type Doc, type Point } from "../model/document";
import { addNode, connect, setUi, setValue } from "../model/edit";
import type { Channel } from "../model/mask";
import { frameOf, freeBelow } from "../model/shape";
import { pathOf } from "../model/subgraph";
import { camera } from "./camera";
import { bringIn } from "./files";
import { filesOf } from "./run";
import { runs } from "./runs";
import { shown } from "./run";
import { screen, toast, type Picture } from "./screen";
import { server } from "./server";
import { active, change, here, select } from "./workspace";

export const MASK = "media.load_mask";
export const PICTURE = "media.load_image";

/** As a document names a file: those of the input folder by their name alone. */
function toPicture(value: string): Picture {
  const found = /^(output|temp|input)\/(.+)$/.exec(value);
  return { folder: found?.[1] ?? "input", name: found?.[2] ?? value };
}

function toValue({ folder, name }: Picture): string {
  return folder === "input" ? name : `${folder}/${name}`;
}

/** The node that holds the mask painted over this picture, if there is one. */
function maskOver(doc: Doc, picture: Picture): string | undefined {
  return Object.keys(doc.nodes).find((id) => doc.nodes[id]!.type === MASK && doc.nodes[id]!.ui?.["over"] === toValue(picture));
}

/** What there is to paint over for a node: its own picture, what it has made, or what its mask is used with. */
function pictureOf(doc: Doc, id: string): Picture | undefined {
  const node = doc.nodes[id];
  const file = node?.values?.["file"];
  if (node?.type === PICTURE) return typeof file === "string" && file ? toPicture(file) : undefined;
  if (node?.type === MASK && typeof node.ui?.["over"] === "string") return toPicture(node.ui["over"]);
  if (node?.type !== MASK) {
    const { run } = active();
    return filesOf(shown(run ? runs.get()[run] : undefined, pathOf(active().inside, id))?.outputs).find((one) => one.media_type.startsWith("image/"));
  }
  const all = links(doc);
  for (const reader of all.filter((link) => link.source === id)) {
    for (const beside of all.filter((link) => link.target === reader.target && link.source !== id)) {
      const found = doc.nodes[beside.source]?.type === MASK ? undefined : pictureOf(doc, beside.source);
      if (found) return found;
    }
  }
  return undefined;
}

/** Can a mask be painted for this node? */
export function paintable(id: string): boolean {
  const doc = here();
  const node = doc.nodes[id];
  return node?.type === MASK ? Boolean(node.values?.["file"] ?? pictureOf(doc, id)) : pictureOf(doc, id) !== undefined;
}

export function paintFor(id: string): void {
  const doc = here();
  const node = doc.nodes[id];
  const over = pictureOf(doc, id);
  const { file, channel, invert } = node?.type === MASK ? (node.values ?? {}) : {};
  const mask = typeof file === "string" && file ? { file: toPicture(file), channel: channel as Channel | undefined, invert: invert === true } : undefined;
  if (node?.type === MASK && (over || mask)) screen.patch({ painting: { over: over ?? null, mask, node: id } });
  else if (over) paintOver(over, id);
  else toast(t("mask.no.picture"));
}

/** Go on with the mask of this picture, or begin one. */
export function paintOver(picture: Picture, source?: string): void {
  const doc = here();
  const id = maskOver(doc, picture);
  const file = id === undefined ? undefined : doc.nodes[id]?.values?.["file"];
  if (id !== undefined && typeof file === "string" && file) screen.patch({ painting: { over: picture, mask: { file: toPicture(file) }, node: id } });
  else screen.patch({ painting: { over: picture, source } });
}

/** Keep what was painted as a file, and let a node read it: the one it came from, or a new one. */
export async function keepMask(picture: Blob): Promise<boolean> {
  const { painting } = screen.get();
  if (!painting) return false;
  const origin = painting.over ?? painting.mask?.file;
  const stem = (origin?.name.split("/").pop() ?? "mask").replace(/\.\w+$/, "").replace(/-mask( \(\d+\))?$/, "");
  const [file] = await bringIn([new File([picture], `${stem}-mask.png`, { type: "image/png" })]);
  if (!file) return false;
  let id = painting.node ?? "";
  change(t("mask.paint"), (doc) => {
    let next = doc;
    if (!next.nodes[id]) {
      [next, id] = addNode(doc, MASK, placeFor(doc, painting.source));
      next = usedInstead(next, painting.source, id);
    }
    next = setValue(setValue(setValue(next, id, "file", toValue(file)), id, "channel", undefined), id, "invert", undefined);
    return painting.over ? setUi(next, id, { over: toValue(painting.over) }) : next;
  });
  select([id]);
  screen.patch({ painting: null });
  return true;
}

function placeFor(doc: Doc, source: string | undefined): Point {
  const node = source === undefined ? undefined : doc.nodes[source];
  if (!node) return camera.pointer();
  const { catalog } = server.get();
  const { x, y, height } = frameOf(catalog, node);
  return freeBelow(doc, catalog, MASK, { x, y: y + height + 30 });
}

/** What took the mask of the picture's file (its transparency) takes the painted one. */
function usedInstead(doc: Doc, source: string | undefined, mask: string): Doc {
  if (source === undefined || doc.nodes[source]?.type !== PICTURE) return doc;
  return links(doc)
    .filter((link) => link.source === source && link.output === "mask")
    .reduce((now, link) => connect(now, mask, "mask", link.target, link.input), doc);
}
