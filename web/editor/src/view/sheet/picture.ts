/** picture: the grid of a sweep as one PNG, with its axes written beside it. */

import { address } from "../../api/http";
import type { Json } from "../../model/json";
import { layout, shortly } from "../../model/sweep";
import { filesOf, type FileRef } from "../../state/run";
import { runs } from "../../state/runs";
import type { Swept } from "../../state/sweep";
import { kindOf } from "../media/Media";
import { wordsOf } from "./SweepGrid";

const SIDE = 256;
const GAP = 8;
const HEAD = 34;
const MARGIN = 20;
const LINE = 17;
/** what canvases of all browsers can have */
const MOST = 8192;

export async function savePicture(swept: Swept, node: string): Promise<void> {
  const blob = await picture(swept, node);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${swept.title.replace(/[^\p{L}\p{N} _-]/gu, "_") || "sweep"}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function picture(swept: Swept, node: string): Promise<Blob> {
  const grids = layout(swept.axes);
  const [first] = grids;
  const [columns, rows] = [first!.columns.length, first!.rows.length];
  const aside = swept.axes.length > 1 ? 130 : 0;
  const tall = grids.length * rows;
  const side = Math.max(24, Math.min(SIDE, Math.floor((MOST - 2 * MARGIN - aside) / columns) - GAP, Math.floor((MOST - 2 * MARGIN - grids.length * 3 * HEAD) / tall) - GAP));
  const width = 2 * MARGIN + aside + columns * (side + GAP);
  const each = HEAD * (swept.axes.length > 2 ? 2 : 1) + rows * (side + GAP) + GAP;
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = 2 * MARGIN + HEAD + grids.length * each;
  const pen = canvas.getContext("2d")!;
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  const font = getComputedStyle(document.body).fontFamily;
  const write = (text: string, x: number, y: number, room: number, weight = ""): void => {
    pen.font = `${weight} 13px ${font}`;
    pen.fillStyle = "#1c2230";
    for (let length = text.length; length > 0; length--) {
      const part = length < text.length ? `${text.slice(0, length)}…` : text;
      if (pen.measureText(part).width <= room || length === 1) return pen.fillText(part, x, y);
    }
  };
  write(swept.axes.map((axis) => `${axis.label} (${axis.values.length})`).join("  ×  "), MARGIN, MARGIN + 14, width - 2 * MARGIN, "600");
  let top = MARGIN + HEAD;
  for (const grid of grids) {
    if (grid.title.length) {
      write(grid.title.map((value: Json, at) => `${swept.axes[at]!.label}: ${shortly(value)}`).join(" · "), MARGIN, top + 20, width - 2 * MARGIN, "600");
      top += HEAD;
    }
    grid.columns.forEach((value, column) => write(shortly(value), MARGIN + aside + column * (side + GAP), top + 20, side));
    top += HEAD;
    for (const [at, row] of grid.rows.entries()) {
      if (row.length) write(shortly(row[0]!), MARGIN, top + side / 2, aside - GAP);
      for (let column = 0; column < columns; column++) {
        const cell = swept.cells[grid.first + at * columns + column]!;
        const outputs = runs.get()[cell.run]?.nodes[node]?.outputs;
        const x = MARGIN + aside + column * (side + GAP);
        pen.fillStyle = "#eef0f4";
        pen.fillRect(x, top, side, side);
        const [file] = filesOf(outputs);
        if (!file || !(await draw(pen, file, x, top, side))) paragraph(write, file?.name ?? wordsOf(outputs), x + 6, top + LINE, side - 12, Math.floor(side / LINE) - 1);
      }
      top += side + GAP;
    }
    top += GAP;
  }
  return new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The picture is too large for this browser."))), "image/png"));
}

async function draw(pen: CanvasRenderingContext2D, file: FileRef, x: number, y: number, side: number): Promise<boolean> {
  if (kindOf(file) !== "image" && kindOf(file) !== "video") return false;
  const image = new Image();
  image.src = address("/api/v1/thumbnails/{folder}/{name}", { folder: file.folder, name: file.name }, { size: Math.min(1024, Math.max(16, side)) });
  try {
    await image.decode();
  } catch {
    return false;
  }
  const scale = side / Math.max(image.naturalWidth, image.naturalHeight);
  const [wide, high] = [image.naturalWidth * scale, image.naturalHeight * scale];
  pen.imageSmoothingEnabled = scale < 2;
  pen.drawImage(image, x + (side - wide) / 2, y + (side - high) / 2, wide, high);
  return true;
}

/** Words in lines of about the room there is; what is too long is cut by `write`. */
function paragraph(write: (text: string, x: number, y: number, room: number) => void, text: string, x: number, y: number, room: number, lines: number): void {
  const letters = Math.max(6, Math.floor(room / 7));
  const parts: string[] = [];
  for (const line of text.split("\n")) for (let at = 0; at < Math.max(1, line.length); at += letters) parts.push(line.slice(at, at + letters));
  parts.slice(0, lines).forEach((part, index) => write(part, x, y + index * LINE, room));
}
