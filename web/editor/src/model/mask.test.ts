import { describe, expect, it } from "vitest";

import { fromPixels, grey, Sheet, tinted } from "./mask";

const hard = { radius: 5, softness: 0, erase: false };
const at = (sheet: Sheet, x: number, y: number): number => sheet.data[y * sheet.width + x]!;

describe("a mask that is painted", () => {
  it("covers a stroke with round ends, and nothing beside it", () => {
    const sheet = new Sheet(200, 100);
    sheet.begin();
    const rect = sheet.stroke(50, 50, 150, 50, hard);
    sheet.end();
    expect(at(sheet, 50, 50)).toBe(255);
    expect(at(sheet, 100, 53)).toBe(255);
    expect(at(sheet, 152, 50)).toBe(255);
    expect(at(sheet, 100, 57)).toBe(0);
    expect(at(sheet, 158, 50)).toBe(0);
    expect(at(sheet, 154, 54)).toBe(0); // a corner that a square brush would have covered
    expect(rect).toEqual({ x: 44, y: 44, width: 112, height: 12 });
    expect(sheet.covered).toBeCloseTo((100 * 10 + Math.PI * 25) / 20_000, 2);
  });

  it("fades towards the edge of a soft brush, and never weakens what is stronger", () => {
    const sheet = new Sheet(100, 100);
    sheet.stroke(50.5, 50.5, 50.5, 50.5, { radius: 20, softness: 1, erase: false });
    expect(at(sheet, 50, 50)).toBe(255);
    expect(at(sheet, 60, 50)).toBeGreaterThan(100);
    expect(at(sheet, 60, 50)).toBeLessThan(160);
    sheet.stroke(50, 50, 70, 50, hard);
    sheet.stroke(50.5, 50.5, 50.5, 50.5, { radius: 20, softness: 1, erase: false });
    expect(at(sheet, 60, 50)).toBe(255);
  });

  it("takes away with the eraser", () => {
    const sheet = new Sheet(100, 100);
    sheet.invert();
    sheet.stroke(50, 50, 50, 50, { ...hard, erase: true });
    expect(at(sheet, 50, 50)).toBe(0);
    expect(at(sheet, 70, 50)).toBe(255);
  });

  it("undoes and does again step by step, also over the borders of tiles and of the picture", () => {
    const sheet = new Sheet(150, 70);
    const states = [sheet.data.slice()];
    const note = (): number => states.push(sheet.data.slice());
    sheet.begin();
    sheet.stroke(60, 60, 70, 68, hard);
    sheet.stroke(70, 68, 149, 69, hard);
    sheet.end();
    note();
    sheet.invert();
    note();
    sheet.begin();
    sheet.stroke(-20, -20, 10, 10, { ...hard, erase: true });
    sheet.end();
    note();
    sheet.clear();
    note();
    for (let step = states.length - 2; step >= 0; step--) {
      expect(sheet.undo()).not.toBeNull();
      expect(sheet.data).toEqual(states[step]);
    }
    expect(sheet.undo()).toBeNull();
    expect(sheet.changed).toBe(false);
    for (let step = 1; step < states.length; step++) {
      sheet.redo();
      expect(sheet.data).toEqual(states[step]);
    }
    expect(sheet.canRedo).toBe(false);
    sheet.undo();
    sheet.begin();
    sheet.stroke(5, 5, 5, 5, hard);
    sheet.end();
    expect(sheet.canRedo).toBe(false); // another way was taken
  });

  it("keeps no step of a stroke beside the picture", () => {
    const sheet = new Sheet(50, 50);
    sheet.begin();
    sheet.stroke(200, 200, 300, 300, hard);
    sheet.end();
    expect(sheet.canUndo).toBe(false);
  });

  it("is the same after it was kept and opened again", () => {
    const sheet = new Sheet(40, 30);
    sheet.stroke(20, 15, 30, 15, { radius: 6, softness: 0.7, erase: false });
    const again = fromPixels(grey(sheet), 40, 30);
    expect(again.data).toEqual(sheet.data);
    expect(fromPixels(grey(sheet), 40, 30, "luma", true).data[0]).toBe(255);
    expect(tinted(sheet, { x: 20, y: 15, width: 1, height: 1 }, [1, 2, 3])).toEqual(new Uint8ClampedArray([1, 2, 3, 255]));
  });
});
