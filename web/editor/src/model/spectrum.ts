/** Spectrum: what there is to hear in a sound, as a picture: its loudness over time, and how loud each pitch is when. */

export const LOWEST_HZ = 40;
/** Of a full sine, beyond which nothing is drawn. */
const FLOOR_DB = -90;
const FFT = 2048;
/** Windows per column at most: more would not be seen. */
const PER_COLUMN = 6;
/** Upper ends that a picture may have: half of the usual rates. */
const TOPS = [4000, 8000, 11_025, 16_000, 22_050];

export interface Spectrum {
  /** the loudest sample of each bar, 0..1 of the loudest of all */
  peaks: Float32Array;
  columns: number;
  rows: number;
  /** rows * columns, the highest pitch first: 0 for silence, 255 for the loudest */
  cells: Uint8Array;
  lowest_hz: number;
  highest_hz: number;
  /** where most of the sound is; 0 for silence */
  loudest_hz: number;
}

/** In place, for lengths that are powers of two: radix 2, decimation in time (Cooley and Tukey, 1965). */
export function fft(re: Float32Array, im: Float32Array): void {
  const size = re.length;
  for (let index = 1, reversed = 0; index < size; index++) {
    let bit = size >> 1;
    for (; reversed & bit; bit >>= 1) reversed ^= bit;
    reversed ^= bit;
    if (index < reversed) {
      [re[index], re[reversed]] = [re[reversed]!, re[index]!];
      [im[index], im[reversed]] = [im[reversed]!, im[index]!];
    }
  }
  for (let half = 1; half < size; half *= 2) {
    const turn = -Math.PI / half;
    for (let at = 0; at < half; at++) {
      const [cos, sin] = [Math.cos(turn * at), Math.sin(turn * at)];
      for (let low = at; low < size; low += 2 * half) {
        const high = low + half;
        const [x, y] = [re[high]! * cos - im[high]! * sin, re[high]! * sin + im[high]! * cos];
        re[high] = re[low]! - x;
        im[high] = im[low]! - y;
        re[low] = re[low]! + x;
        im[low] = im[low]! + y;
      }
    }
  }
}

/** channels: one or two of equal length, at `rate` Hz. */
export function spectrum(channels: readonly Float32Array[], rate: number, columns = 360, rows = 128, bars = 120): Spectrum {
  const [left, right] = channels;
  const length = left?.length ?? 0;
  const power = powers(left ?? new Float32Array(), right, columns);
  const loud = Math.max(...power.map((column) => column.reduce((most, value) => Math.max(most, value), 0)), 1e-20);
  const mean = new Float64Array(FFT / 2);
  for (const column of power) column.forEach((value, bin) => (mean[bin] = mean[bin]! + value));
  const bin = rate / FFT;
  const heard = mean.findLastIndex((value) => value / power.length > loud * 10 ** (-60 / 10)) * bin;
  const highest_hz = Math.min(rate / 2, TOPS.find((top) => top >= heard) ?? rate / 2);
  const cells = new Uint8Array(rows * columns);
  const edge = (row: number): number => LOWEST_HZ * (highest_hz / LOWEST_HZ) ** (1 - row / rows);
  for (let row = 0; row < rows; row++) {
    const [from, to] = [edge(row + 1) / bin, edge(row) / bin];
    for (let column = 0; column < columns; column++) {
      const decibels = 10 * Math.log10(strongest(power[column]!, from, to) / loud + 1e-20);
      cells[row * columns + column] = Math.round(255 * Math.min(1, Math.max(0, 1 - decibels / FLOOR_DB)));
    }
  }
  const most = mean.reduce((best, value, index) => (value > mean[best]! ? index : best), 0);
  return { peaks: peaksOf(channels, bars), columns, rows, cells, lowest_hz: LOWEST_HZ, highest_hz, loudest_hz: length && loud > 1e-12 ? most * bin : 0 };
}

/** Power per bin and column, of both channels together: as real and imaginary part, one transform serves both. */
function powers(left: Float32Array, right: Float32Array | undefined, columns: number): Float64Array[] {
  const window = Float32Array.from({ length: FFT }, (_unused, at) => (0.5 - 0.5 * Math.cos((2 * Math.PI * at) / FFT)) * (4 / FFT));
  const [re, im] = [new Float32Array(FFT), new Float32Array(FFT)];
  const span = left.length / columns;
  const count = Math.max(1, Math.min(PER_COLUMN, Math.ceil(span / (FFT / 2))));
  return Array.from({ length: columns }, (_unused, column) => {
    const found = new Float64Array(FFT / 2);
    for (let part = 0; part < count; part++) {
      const start = Math.round((column + (part + 0.5) / count) * span - FFT / 2);
      for (let at = 0; at < FFT; at++) {
        re[at] = (left[start + at] ?? 0) * window[at]!;
        im[at] = (right?.[start + at] ?? 0) * window[at]!;
      }
      fft(re, im);
      for (let bin = 1; bin < FFT / 2; bin++) {
        const mirror = FFT - bin;
        found[bin] = found[bin]! + (re[bin]! ** 2 + im[bin]! ** 2 + re[mirror]! ** 2 + im[mirror]! ** 2) / 2 / count;
      }
    }
    return found;
  });
}

/** The strongest of the bins between two places; where a row is narrower than a bin, what lies between two of them. */
function strongest(power: Float64Array, from: number, to: number): number {
  const [first, last] = [Math.ceil(from), Math.min(power.length - 1, Math.floor(to))];
  if (first > last) {
    const at = Math.min(power.length - 2, Math.floor((from + to) / 2));
    const share = (from + to) / 2 - at;
    return power[at]! * (1 - share) + power[at + 1]! * share;
  }
  let most = 0;
  for (let bin = first; bin <= last; bin++) most = Math.max(most, power[bin]!);
  return most;
}

function peaksOf(channels: readonly Float32Array[], bars: number): Float32Array {
  const peaks = new Float32Array(bars);
  for (const samples of channels) {
    for (let bar = 0; bar < bars; bar++) {
      const to = Math.floor(((bar + 1) / bars) * samples.length);
      let most = peaks[bar]!;
      for (let at = Math.floor((bar / bars) * samples.length); at < to; at++) most = Math.max(most, Math.abs(samples[at]!));
      peaks[bar] = most;
    }
  }
  const top = Math.max(0.01, ...peaks);
  return peaks.map((peak) => peak / top);
}

/** Frequencies to write at the side, with the place of each as a share from the top. */
export function marks({ lowest_hz, highest_hz }: Pick<Spectrum, "lowest_hz" | "highest_hz">): { hz: number; label: string; at: number }[] {
  return [100, 300, 1000, 3000, 10_000]
    .filter((hz) => hz < highest_hz * 0.85)
    .map((hz) => ({ hz, label: hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`, at: 1 - Math.log(hz / lowest_hz) / Math.log(highest_hz / lowest_hz) }));
}

/** Dark to light: black, violet, red, orange, pale yellow. */
const SCALE = [[8, 8, 20], [84, 18, 108], [186, 54, 86], [248, 140, 30], [252, 250, 170]] as const;

export function colour(value: number): readonly [number, number, number] {
  const place = (Math.min(255, Math.max(0, value)) / 255) * (SCALE.length - 1);
  const at = Math.min(SCALE.length - 2, Math.floor(place));
  const share = place - at;
  const mix = (index: 0 | 1 | 2): number => Math.round(SCALE[at]![index] * (1 - share) + SCALE[at + 1]![index] * share);
  return [mix(0), mix(1), mix(2)];
}
