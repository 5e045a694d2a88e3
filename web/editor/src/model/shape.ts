/** Shape: how large a node is and where its sockets are, known before it is drawn, so that a view can leave out what is far. */

import type { Doc, DocNode, Frame, Point } from "./document";
import { hasField, inputsOf, type Catalog, type Input, type NodeType, type Output } from "./nodetype";

export const WIDTH = 264;
export const HEAD = 34;
export const ROW = 26;
export const AREA = 84;
export const PAD = 8;
/** The space below the fields for what a node has made, and for what one that works slowly shows meanwhile. */
const MEDIA = 190;
const LIVE = 132;
const SLOW = new Set(["IMAGE", "VIDEO", "AUDIO", "LATENT", "GENERATION"]);

export interface Row {
  input?: Input;
  output?: Output;
  /** the input has a field of its own in this row */
  field: boolean;
  /** the empty socket of a node that takes any number */
  more?: boolean;
  height: number;
}
export interface Shape {
  width: number;
  height: number;
  rows: Row[];
  media: number;
}

const kept = new WeakMap<DocNode, { type: NodeType; shape: Shape }>();

export function shapeOf(catalog: Catalog, node: DocNode): Shape {
  const type = catalog.of(node);
  const known = kept.get(node);
  if (known && known.type === type) return known.shape;
  const shape = makeShape(catalog, type, node);
  kept.set(node, { type, shape });
  return shape;
}

function makeShape(catalog: Catalog, type: NodeType, node: DocNode): Shape {
  const media = mediaOf(type);
  const inputs = inputsOf(type, node);
  const plain = inputs.filter((input) => !hasField(catalog, input));
  const fields = inputs.filter((input) => hasField(catalog, input));
  const rows: Row[] = [];
  const sockets: { input?: Input; more?: boolean }[] = plain.map((input) => ({ input }));
  if (type.more) sockets.push({ input: type.more, more: true });
  for (let index = 0; index < Math.max(sockets.length, type.outputs.length); index++) {
    rows.push({ ...sockets[index], output: type.outputs[index], field: false, height: ROW });
  }
  for (const input of fields) {
    const linked = node.links !== undefined && input.name in node.links;
    rows.push({ input, field: true, height: input.widget?.multiline && !linked ? AREA : ROW });
  }
  const width = Math.max(160, node.ui?.width ?? WIDTH);
  if (node.ui?.collapsed) return { width: Math.min(width, 220), height: HEAD, rows, media: 0 };
  const natural = HEAD + PAD * 2 + rows.reduce((sum, row) => sum + row.height, 0) + media;
  return { width, height: Math.max(natural, node.ui?.height ?? 0), rows, media };
}

export function frameOf(catalog: Catalog, node: DocNode): Frame {
  const { width, height } = shapeOf(catalog, node);
  return { x: node.ui?.x ?? 0, y: node.ui?.y ?? 0, width, height };
}

/** How much of a node of that type is for results. */
function mediaOf(type: NodeType): number {
  if (type.output) return MEDIA;
  return type.effect === "seeded" && type.outputs.some((output) => SLOW.has(output.kind)) ? LIVE : 0;
}

export function bounds(frames: readonly Frame[]): Frame {
  if (!frames.length) return { x: 0, y: 0, width: 0, height: 0 };
  const x = Math.min(...frames.map((frame) => frame.x));
  const y = Math.min(...frames.map((frame) => frame.y));
  const right = Math.max(...frames.map((frame) => frame.x + frame.width));
  const bottom = Math.max(...frames.map((frame) => frame.y + frame.height));
  return { x, y, width: right - x, height: bottom - y };
}

/** Ids of the nodes and notes whose middle lies in the group: they move with it. */
export function inside(doc: Doc, catalog: Catalog, group: Frame): string[] {
  const holds = (frame: Frame): boolean => {
    const x = frame.x + frame.width / 2;
    const y = frame.y + frame.height / 2;
    return x >= group.x && x <= group.x + group.width && y >= group.y && y <= group.y + group.height;
  };
  const nodes = Object.entries(doc.nodes).filter(([, node]) => holds(frameOf(catalog, node)));
  return [...nodes.map(([id]) => id), ...(doc.ui?.notes ?? []).filter(holds).map((note) => note.id)];
}

/** The first place there or below it where a new node of that type lies on no other. */
export function freeBelow(doc: Doc, catalog: Catalog, type: string, { x, y }: Point): Point {
  const { width, height } = frameOf(catalog, { type });
  const beside = Object.values(doc.nodes).map((node) => frameOf(catalog, node)).filter((other) => other.x < x + width && x < other.x + other.width);
  for (const other of beside.sort((a, b) => a.y - b.y)) if (other.y < y + height && y < other.y + other.height) y = other.y + other.height + 30;
  return { x, y };
}

/** Places for what lies on top of something else: further down. Workflows are laid out by others, who draw nodes smaller. */
export function settle(frames: ReadonlyMap<string, Frame>, gap = 30): Map<string, Point> {
  const laid: Frame[] = [];
  const moved = new Map<string, Point>();
  for (const [id, frame] of [...frames].sort(([, a], [, b]) => a.y - b.y || a.x - b.x)) {
    let y = frame.y;
    for (let again = true; again; ) {
      again = false;
      for (const other of laid) {
        const beside = frame.x + frame.width <= other.x || other.x + other.width <= frame.x;
        if (beside || y >= other.y + other.height || y + frame.height <= other.y) continue;
        y = other.y + other.height + gap;
        again = true;
      }
    }
    laid.push({ ...frame, y });
    if (y !== frame.y) moved.set(id, { x: frame.x, y });
  }
  return moved;
}
