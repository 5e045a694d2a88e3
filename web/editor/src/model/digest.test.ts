import { describe, expect, it } from "vitest";

import { facts, place, short, twoSided } from "./digest";

describe("digests", () => {
  it("are told in a line", () => {
    const strip = { form: "tensor" as const, shape: [1, 77, 768], dtype: "float32", min: -0.12345, max: 31.2, mean: 0.00001, not_finite: 2 };
    expect(facts(strip)).toBe("float32 1 × 77 × 768 · −0.1235 … 31.2 · ⌀ 1.00e−5 · NaN/∞: 2");
    expect(facts({ form: "tensor", shape: [], dtype: "int64", min: 7, max: 7, mean: 7 })).toBe("int64 1 · 7");
    expect(short(1234567)).toBe("1.23e+6");
  });

  it("put zero in the middle where values lie on both sides of it", () => {
    expect(place(0, -1, 4)).toBe(0.5);
    expect(place(4, -1, 4)).toBe(1);
    expect(place(-1, -1, 4)).toBeCloseTo(0.375);
    expect(place(2, 1, 3)).toBe(0.5);
    expect(place(5, 5, 5)).toBe(0.5);
    const [red, , blue] = twoSided(0.9);
    expect(red).toBeGreaterThan(blue);
    expect(twoSided(0.1)[2]).toBeGreaterThan(twoSided(0.1)[0]);
    expect(Math.max(...twoSided(0.5))).toBeLessThan(50);
  });
});
