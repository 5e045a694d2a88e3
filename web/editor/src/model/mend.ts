/**
 * Mend: what is only drawn (`ui`, titles, words) made sound, whoever wrote it: what cannot be drawn is left out. No file that
 * the server takes is refused for how it looks.
 */

import type { Doc, DocNode, DocUi, Frame, Group, NodeUi, Note, Point } from "./document";
import { isObject } from "./json";

/** Beyond this a canvas cannot tell two places from each other any more. */
const FARTHEST = 1e7;
const LARGEST = 20_000;
const CONTROLS = ["fixed", "increment", "decrement", "randomize"];

function place(value: unknown): value is number {
  return typeof value === "number" && Math.abs(value) <= FARTHEST;
}

function extent(value: unknown): value is number {
  return typeof value === "number" && value > 0 && value <= LARGEST;
}

export function mend(doc: Doc): Doc {
  const next = part(doc);
  if (!doc.subgraphs) return next;
  const subgraphs = Object.entries(doc.subgraphs).map(([name, inner]) => {
    const made = part(inner);
    const ports = Object.fromEntries((["inputs", "outputs"] as const).flatMap((side) => (made[side] ? [[side, made[side].map((port) => worded(port, "label"))]] : [])));
    const borders = Object.fromEntries((["inputs", "outputs"] as const).flatMap((side) => {
      const ui: unknown = made.ui?.[side];
      return ui === undefined ? [] : [[side, isObject(ui) ? nodeUi(ui) : undefined]];
    }));
    return [name, { ...made, ...ports, ...(made.ui ? { ui: { ...made.ui, ...borders } } : {}) }];
  });
  return { ...next, subgraphs: Object.fromEntries(subgraphs) };
}

function part<T extends { nodes: Record<string, DocNode>; ui?: DocUi }>(whole: T): T {
  const node = (one: DocNode): DocNode => worded(one.ui ? { ...one, ui: nodeUi(one.ui) } : one, "title");
  return worded({
    ...whole,
    nodes: Object.fromEntries(Object.entries(whole.nodes).map(([id, one]) => [id, node(one)])),
    ...(whole.ui === undefined ? {} : { ui: partUi(whole.ui) }),
  }, "title", "description", "category");
}

/** The same with these as text, or without them. */
function worded<T extends object>(entry: T, ...keys: string[]): T {
  const values = entry as Record<string, unknown>;
  const bad = keys.filter((key) => values[key] !== undefined && values[key] !== null && typeof values[key] !== "string");
  if (!bad.length) return entry;
  const next: Record<string, unknown> = { ...values };
  for (const key of bad) {
    if (typeof values[key] === "object") delete next[key];
    else next[key] = String(values[key]);
  }
  return next as T;
}

/** A node without a place is given one by whoever opens it. */
function nodeUi(ui: Record<string, unknown>): NodeUi {
  const sound: Record<string, (value: unknown) => boolean> = {
    x: place, y: place, width: extent, height: extent,
    color: (value) => typeof value === "string", kept: (value) => typeof value === "string",
    control: (value) => isObject(value) && Object.values(value).every((word) => CONTROLS.includes(word as string)),
  };
  const bad = Object.keys(ui).filter((key) => ui[key] !== undefined && Object.hasOwn(sound, key) && !sound[key]!(ui[key]));
  return bad.length ? Object.fromEntries(Object.entries(ui).filter(([key]) => !bad.includes(key))) : ui;
}

function partUi(ui: unknown): DocUi {
  if (!isObject(ui)) return {};
  const next: Record<string, unknown> = { ...ui };
  if (ui["groups"] !== undefined) next["groups"] = drawn(ui["groups"], "group", (entry) => ({ title: text(entry["title"], ""), color: text(entry["color"], "#5c6370") }));
  if (ui["notes"] !== undefined) next["notes"] = drawn(ui["notes"], "note", (entry) => ({ text: text(entry["text"], ""), color: text(entry["color"], "#8a7a3a") }));
  const { reroutes } = ui;
  if (reroutes !== undefined) {
    next["reroutes"] = Object.fromEntries(Object.entries(isObject(reroutes) ? reroutes : {}).filter(([, points]) => Array.isArray(points) && points.every(isPoint)));
  }
  return next;
}

function drawn(list: unknown, word: "group" | "note", rest: (entry: Record<string, unknown>) => object): (Group | Note)[] {
  const taken = new Set<string>();
  const free = (id: unknown): string => {
    let name = typeof id === "string" && id.includes(":") ? id : `${word}:1`; // no node is called so
    for (let count = 2; taken.has(name); count++) name = `${word}:${count}`;
    taken.add(name);
    return name;
  };
  return (Array.isArray(list) ? list : []).filter(isObject).map((entry) => ({ ...entry, id: free(entry["id"]), ...frame(entry), ...rest(entry) }) as Group & Note);
}

function frame({ x, y, width, height }: Record<string, unknown>): Frame {
  return { x: place(x) ? x : 0, y: place(y) ? y : 0, width: extent(width) ? width : 280, height: extent(height) ? height : 140 };
}

function isPoint(point: unknown): point is Point {
  return isObject(point) && place(point["x"]) && place(point["y"]);
}

function text(value: unknown, otherwise: string): string {
  return typeof value === "string" ? value : otherwise;
}
