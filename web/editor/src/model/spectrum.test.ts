import { describe, expect, it } from "vitest";

import { fft, marks, spectrum } from "./spectrum";

const RATE = 44_100;
const sine = (hz: number, seconds = 1, size = 0.5): Float32Array => Float32Array.from({ length: seconds * RATE }, (_unused, at) => size * Math.sin((2 * Math.PI * hz * at) / RATE));
/** The pitch of the row that is brightest in a column. */
const pitch = (found: ReturnType<typeof spectrum>, column: number): number => {
  let best = 0;
  for (let row = 0; row < found.rows; row++) if (found.cells[row * found.columns + column]! > found.cells[best * found.columns + column]!) best = row;
  return found.lowest_hz * (found.highest_hz / found.lowest_hz) ** (1 - (best + 0.5) / found.rows);
};

describe("the spectrum of a sound", () => {
  it("agrees with the transform as it is defined", () => {
    const size = 16;
    const re = Float32Array.from({ length: size }, (_unused, at) => Math.sin(at * at));
    const im = Float32Array.from({ length: size }, (_unused, at) => Math.cos(3 * at));
    const wanted = Array.from({ length: size }, (_unused, bin) => {
      let [x, y] = [0, 0];
      for (let at = 0; at < size; at++) {
        const turn = (-2 * Math.PI * bin * at) / size;
        x += re[at]! * Math.cos(turn) - im[at]! * Math.sin(turn);
        y += re[at]! * Math.sin(turn) + im[at]! * Math.cos(turn);
      }
      return [x, y] as const;
    });
    fft(re, im);
    wanted.forEach(([x, y], bin) => {
      expect(re[bin]).toBeCloseTo(x, 4);
      expect(im[bin]).toBeCloseTo(y, 4);
    });
  });

  it.each([110, 440, 1000, 6000])("shows a tone of %i Hz at its pitch", (hz) => {
    const found = spectrum([sine(hz)], RATE);
    for (const column of [40, 180, 320]) expect(Math.abs(Math.log2(pitch(found, column) / hz))).toBeLessThan(0.2);
    expect(Math.abs(found.loudest_hz - hz)).toBeLessThan(22);
  });

  it("tells when each tone sounds, of either channel", () => {
    const half = RATE / 2;
    const left = sine(300).fill(0, half);
    const right = sine(3000).fill(0, 0, half);
    const found = spectrum([left, right], RATE);
    expect(Math.abs(Math.log2(pitch(found, 60) / 300))).toBeLessThan(0.2);
    expect(Math.abs(Math.log2(pitch(found, 300) / 3000))).toBeLessThan(0.2);
    expect(found.peaks[10]).toBeCloseTo(1, 1);
  });

  it("hears channels that cancel each other", () => {
    const found = spectrum([sine(500), sine(500).map((value) => -value)], RATE);
    expect(Math.abs(found.loudest_hz - 500)).toBeLessThan(22);
  });

  it("ends where the sound ends, and takes silence and nothing", () => {
    expect(spectrum([sine(1000)], RATE).highest_hz).toBe(4000);
    expect(spectrum([sine(9000)], RATE).highest_hz).toBe(11_025);
    const silent = spectrum([new Float32Array(RATE)], RATE);
    expect(silent.loudest_hz).toBe(0);
    expect(Math.max(...silent.cells)).toBe(0);
    expect(spectrum([], RATE).peaks.every((peak) => peak === 0)).toBe(true);
  });

  it("writes frequencies where they lie", () => {
    const found = marks({ lowest_hz: 40, highest_hz: 4000 });
    expect(found.map((mark) => mark.label)).toEqual(["100 Hz", "300 Hz", "1 kHz", "3 kHz"]);
    expect(found[0]!.at).toBeCloseTo(1 - Math.log(2.5) / Math.log(100), 6);
  });
});
