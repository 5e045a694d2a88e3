/**
 * Sheet: a mask that is painted, one byte per pixel, 255 where it covers. Steps are kept as the tiles that they changed,
 * so undoing a stroke over a picture of 50 megapixels costs what the stroke touched.
 */

export interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}
export interface Brush {
  /** in pixels of the picture */
  radius: number;
  /** 0: a hard edge, 1: it fades from the middle on */
  softness: number;
  erase: boolean;
}

const TILE = 64;
const KEPT_BYTES = 192 << 20;
/** tile -> what it held before the step, or holds after it while the step is undone */
type Step = Map<number, Uint8Array>;

export class Sheet {
  readonly data: Uint8Array;
  private readonly columns: number;
  private past: Step[] = [];
  private future: Step[] = [];
  private step: Step | null = null;
  /** how many steps are done; it tells whether anything differs from what was opened */
  private done = 0;

  constructor(
    readonly width: number,
    readonly height: number,
    data?: Uint8Array,
  ) {
    this.data = data ?? new Uint8Array(width * height);
    this.columns = Math.ceil(width / TILE);
  }

  get canUndo(): boolean {
    return this.past.length > 0;
  }

  get canRedo(): boolean {
    return this.future.length > 0;
  }

  get changed(): boolean {
    return this.done !== 0;
  }

  get whole(): Rect {
    return { x: 0, y: 0, width: this.width, height: this.height };
  }

  /** The share of the picture that is covered, 0..1. */
  get covered(): number {
    let sum = 0;
    for (const value of this.data) sum += value;
    return sum / 255 / this.data.length;
  }

  begin(): void {
    this.end();
    this.step = new Map();
  }

  end(): void {
    if (this.step?.size) this.keep(this.step);
    this.step = null;
  }

  /** Draw from one point to another; what was there stays where it is stronger. The part that may have changed. */
  stroke(ax: number, ay: number, bx: number, by: number, { radius, softness, erase }: Brush): Rect {
    const reach = radius + 1;
    const rect = this.clip(Math.min(ax, bx) - reach, Math.min(ay, by) - reach, Math.max(ax, bx) + reach, Math.max(ay, by) + reach);
    if (!rect.width || !rect.height) return rect;
    this.touch(rect);
    const [dx, dy] = [bx - ax, by - ay];
    const length = dx * dx + dy * dy;
    const fade = Math.max(1, radius * softness);
    for (let y = rect.y; y < rect.y + rect.height; y++) {
      for (let x = rect.x; x < rect.x + rect.width; x++) {
        const [px, py] = [x + 0.5 - ax, y + 0.5 - ay];
        const along = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
        const distance = Math.hypot(px - along * dx, py - along * dy);
        const strength = (radius + 0.5 - distance) / fade;
        if (strength <= 0) continue;
        const value = Math.round(Math.min(1, strength) * 255);
        const at = y * this.width + x;
        const before = this.data[at]!;
        this.data[at] = erase ? Math.min(before, 255 - value) : Math.max(before, value);
      }
    }
    return rect;
  }

  invert(): Rect {
    return this.all((value) => 255 - value);
  }

  clear(): Rect {
    return this.all(() => 0);
  }

  undo(): Rect | null {
    this.end();
    const step = this.past.pop();
    if (!step) return null;
    this.future.push(step);
    this.done--;
    return this.swap(step);
  }

  redo(): Rect | null {
    this.end();
    const step = this.future.pop();
    if (!step) return null;
    this.past.push(step);
    this.done++;
    return this.swap(step);
  }

  private all(change: (value: number) => number): Rect {
    this.begin();
    this.touch(this.whole);
    for (let at = 0; at < this.data.length; at++) this.data[at] = change(this.data[at]!);
    this.end();
    return this.whole;
  }

  private clip(left: number, top: number, right: number, bottom: number): Rect {
    const x = Math.min(this.width, Math.max(0, Math.floor(left)));
    const y = Math.min(this.height, Math.max(0, Math.floor(top)));
    return { x, y, width: Math.max(0, Math.min(this.width, Math.ceil(right)) - x), height: Math.max(0, Math.min(this.height, Math.ceil(bottom)) - y) };
  }

  /** Keep what the tiles of this part hold, if this step has not yet. */
  private touch({ x, y, width, height }: Rect): void {
    if (!this.step) this.begin();
    for (let row = Math.floor(y / TILE); row * TILE < y + height; row++) {
      for (let column = Math.floor(x / TILE); column * TILE < x + width; column++) {
        const tile = row * this.columns + column;
        if (!this.step!.has(tile)) this.step!.set(tile, this.read(this.place(tile)));
      }
    }
  }

  private place(tile: number): Rect {
    const x = (tile % this.columns) * TILE;
    const y = Math.floor(tile / this.columns) * TILE;
    return { x, y, width: Math.min(TILE, this.width - x), height: Math.min(TILE, this.height - y) };
  }

  private read({ x, y, width, height }: Rect): Uint8Array {
    const found = new Uint8Array(width * height);
    for (let row = 0; row < height; row++) found.set(this.data.subarray((y + row) * this.width + x, (y + row) * this.width + x + width), row * width);
    return found;
  }

  private swap(step: Step): Rect {
    let [left, top, right, bottom] = [this.width, this.height, 0, 0];
    for (const [tile, held] of step) {
      const place = this.place(tile);
      step.set(tile, this.read(place));
      for (let row = 0; row < place.height; row++) this.data.set(held.subarray(row * place.width, (row + 1) * place.width), (place.y + row) * this.width + place.x);
      [left, top] = [Math.min(left, place.x), Math.min(top, place.y)];
      [right, bottom] = [Math.max(right, place.x + place.width), Math.max(bottom, place.y + place.height)];
    }
    return { x: left, y: top, width: right - left, height: bottom - top };
  }

  private keep(step: Step): void {
    this.past.push(step);
    this.future = [];
    this.done++;
    const bytes = (one: Step): number => [...one.values()].reduce((sum, tile) => sum + tile.length, 0);
    let kept = this.past.reduce((sum, one) => sum + bytes(one), 0);
    while (kept > KEPT_BYTES && this.past.length > 1) kept -= bytes(this.past.shift()!);
  }
}

/** A part of the sheet as pixels of one colour, as clear as the mask is weak: what lies over the picture. */
export function tinted(sheet: Sheet, { x, y, width, height }: Rect, [red, green, blue]: readonly [number, number, number]): Uint8ClampedArray<ArrayBuffer> {
  const pixels = new Uint8ClampedArray(width * height * 4);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const at = (row * width + column) * 4;
      pixels[at] = red;
      pixels[at + 1] = green;
      pixels[at + 2] = blue;
      pixels[at + 3] = sheet.data[(y + row) * sheet.width + x + column]!;
    }
  }
  return pixels;
}

/** The sheet as an opaque grey picture: the form in which it is kept. */
export function grey(sheet: Sheet): Uint8ClampedArray<ArrayBuffer> {
  const pixels = new Uint8ClampedArray(sheet.data.length * 4);
  sheet.data.forEach((value, index) => pixels.fill(value, index * 4, index * 4 + 3));
  for (let at = 3; at < pixels.length; at += 4) pixels[at] = 255;
  return pixels;
}

export type Channel = "luma" | "red" | "green" | "blue" | "alpha";

/** A sheet out of pixels, as media.load_mask reads them. */
export function fromPixels(pixels: Uint8ClampedArray, width: number, height: number, channel: Channel = "luma", invert = false): Sheet {
  const data = new Uint8Array(width * height);
  const plane = ["red", "green", "blue", "alpha"].indexOf(channel);
  for (let index = 0; index < data.length; index++) {
    const at = index * 4;
    const value = plane < 0 ? Math.round(0.299 * pixels[at]! + 0.587 * pixels[at + 1]! + 0.114 * pixels[at + 2]!) : pixels[at + plane]!;
    data[index] = invert ? 255 - value : value;
  }
  return new Sheet(width, height, data);
}
