/** Camera: where the canvas looks, for those who are not on it. The canvas says what it can do when it is there. */

import type { Point } from "../model/document";

export interface Lens {
  fit: (ids?: readonly string[]) => void;
  zoom: (factor: number) => void;
  toCanvas: (page: Point) => Point;
}

let lens: Lens | undefined;
let last: Point | undefined;

export const camera = {
  use(next: Lens | undefined): void {
    lens = next;
  },
  saw(page: Point): void {
    last = page;
  },
  fit(ids?: readonly string[]): void {
    lens?.fit(ids?.length ? ids : undefined);
  },
  zoom(factor: number): void {
    lens?.zoom(factor);
  },
  /** Is such a part of the page on the canvas, as a whole? */
  sees(part: string): boolean {
    const [inner, outer] = [part, ".canvas"].map((one) => document.querySelector(one)?.getBoundingClientRect());
    return !!inner && !!outer && inner.left >= outer.left && inner.top >= outer.top && inner.right <= outer.right && inner.bottom <= outer.bottom;
  },
  middle(): Point {
    return last ?? { x: innerWidth / 2, y: innerHeight / 2 };
  },
  /** on the canvas, under the pointer */
  pointer(): Point {
    const page = this.middle();
    const at = lens?.toCanvas(page) ?? { x: 0, y: 0 };
    return { x: Math.round(at.x), y: Math.round(at.y) };
  },
};
