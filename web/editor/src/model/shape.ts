/** Shape: how large a node is and where its sockets are, known before it is drawn, so that a view can leave out what is far. */

import type { Doc, DocNode, Frame } from "./document";
import { hasField, inputsOf, type Catalog, type Input, type NodeType, type Output } from "./nodetype";

export const WIDTH = 264;
export const HEAD = 34;
export const ROW = 26;
export const AREA = 84;
export const PAD = 8;
export const MEDIA = 190;

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
  media: boolean;
}

const kept = new WeakMap<DocNode, { type: NodeType; media: boolean; shape: Shape }>();

/** `media`: the node shows a result below its fields. */
export function shapeOf(catalog: Catalog, node: DocNode, media: boolean): Shape {
  const type = catalog.of(node);
  const known = kept.get(node);
  if (known && known.type === type && known.media === media) return known.shape;
  const shape = makeShape(catalog, type, node, media);
  kept.set(node, { type, media, shape });
  return shape;
}

function makeShape(catalog: Catalog, type: NodeType, node: DocNode, media: boolean): Shape {
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
  if (node.ui?.collapsed) return { width: Math.min(width, 220), height: HEAD, rows, media: false };
  const natural = HEAD + PAD * 2 + rows.reduce((sum, row) => sum + row.height, 0) + (media ? MEDIA : 0);
  return { width, height: Math.max(natural, node.ui?.height ?? 0), rows, media };
}

export function frameOf(catalog: Catalog, node: DocNode, media: boolean): Frame {
  const { width, height } = shapeOf(catalog, node, media);
  return { x: node.ui?.x ?? 0, y: node.ui?.y ?? 0, width, height };
}

/** Does this node's type show results on the node? */
export function showsMedia(type: NodeType): boolean {
  return type.output;
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
  const nodes = Object.entries(doc.nodes).filter(([, node]) => holds(frameOf(catalog, node, false)));
  return [...nodes.map(([id]) => id), ...(doc.ui?.notes ?? []).filter(holds).map((note) => note.id)];
}
