/** Screen: what is open beside the canvas. */

import type { Point } from "../model/document";
import type { Channel } from "../model/mask";
import type { Wanted } from "../model/search";
import type { FileRef } from "./run";
import { Store } from "./store";

export type Panel = "nodes" | "workflows" | "runs" | "models" | "problems";
export type Dialog = "settings" | "help" | "tour" | "save" | "palette" | "link" | "token" | "subgraph" | "conflict";
/** What lies over the canvas; loaded when it is first asked for. */
export type Sheet = { kind: "sweep" } | { kind: "compare"; before: Side; after: Side };
/** One of the two that are compared. */
export type Side = { kind: "tab"; id: string } | { kind: "saved"; name: string } | { kind: "version"; name: string; id: string } | { kind: "run"; id: string };

/** A tab whose workflow was changed on the server by somebody else. */
export interface Conflict {
  tab: string;
  name: string;
}

export interface SearchRequest {
  /** on the page */
  at: Point;
  /** on the canvas */
  place: Point;
  wanted?: Wanted;
  from?: { node: string; port: string };
}
export interface Menu {
  at: Point;
  place: Point;
  target: { kind: "node" | "link" | "canvas" | "group" | "note"; id: string; input?: string };
}
export interface Toast {
  id: number;
  kind: "info" | "error" | "done";
  text: string;
  remedy?: string;
  action?: { label: string; run: () => void };
}
/** a file of the server */
export interface Picture {
  folder: string;
  name: string;
}
/** a mask that is painted */
export interface Painting {
  over: Picture | null;
  mask?: { file: Picture; channel?: Channel; invert?: boolean };
  /** the node that reads the mask, once there is one */
  node?: string;
  /** the node that the picture belongs to */
  source?: string;
}
export interface Screen {
  panel: Panel | null;
  chat: boolean;
  dialog: Dialog | null;
  search: SearchRequest | null;
  menu: Menu | null;
  viewing: { files: FileRef[]; index: number } | null;
  painting: Painting | null;
  toasts: Toast[];
  /** a link is being drawn from here: what fits lights up */
  drawing: (Wanted & { node: string }) | null;
  docs: string | null;
  /** the node, group or note whose words are to become a field */
  editing: string | null;
  sheet: Sheet | null;
  conflict: Conflict | null;
}

export const screen = new Store<Screen>({
  panel: null,
  chat: false,
  dialog: null,
  search: null,
  menu: null,
  viewing: null,
  painting: null,
  toasts: [],
  drawing: null,
  docs: null,
  editing: null,
  sheet: null,
  conflict: null,
});

let count = 0;

export function toast(text: string, kind: Toast["kind"] = "info", more: Partial<Toast> = {}): void {
  const id = ++count;
  screen.set((now) => ({ ...now, toasts: [...now.toasts.slice(-3), { id, kind, text, ...more }] }));
  setTimeout(() => dismiss(id), kind === "error" || more.action ? 12_000 : 4500);
}

export function dismiss(id: number): void {
  screen.set((now) => ({ ...now, toasts: now.toasts.filter((entry) => entry.id !== id) }));
}

export function togglePanel(panel: Panel): void {
  screen.set((now) => ({ ...now, panel: now.panel === panel ? null : panel }));
}
