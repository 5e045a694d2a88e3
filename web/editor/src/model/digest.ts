/** Digest: what the server says of a value that is too large to be sent: what it is, its extent, and a strip of it. */

interface Medium {
  medium?: "image" | "audio" | "video";
  /** entries of the batch */
  count?: number;
  fps?: number;
}
export interface TensorDigest extends Medium {
  form: "tensor";
  shape: number[];
  dtype: string;
  min?: number;
  max?: number;
  mean?: number | null;
  not_finite?: number;
  rows?: number;
  columns?: number;
  /** rows * columns averages */
  strip?: number[];
}
export type Digest =
  | TensorDigest
  | ({ form: "record"; fields: { name: string; value: Digest }[]; more: number } & Medium)
  | { form: "list"; length: number; items: Digest[] }
  | { form: "table"; columns: string[]; rows: unknown[][]; length: number }
  | { form: "text"; text: string; length: number }
  | { form: "json"; value: unknown }
  | { form: "skipped"; message: string }
  | { form: "other"; text: string };

/** "float32 1 × 77 × 768 · −0.1 … 0.2 · ⌀ 0.01", with what is wrong at the end. */
export function facts({ dtype, shape, min, max, mean, not_finite }: TensorDigest): string {
  const parts = [`${dtype} ${shape.join(" × ") || "1"}`];
  if (min !== undefined && max !== undefined) parts.push(min === max ? short(min) : `${short(min)} … ${short(max)}`);
  if (typeof mean === "number" && min !== max) parts.push(`⌀ ${short(mean)}`);
  if (not_finite) parts.push(`NaN/∞: ${not_finite}`);
  return parts.join(" · ");
}

export function short(value: number): string {
  const size = Math.abs(value);
  const text = size && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  return text.replace("-", "−");
}

/** The place of a value between the ends of its strip, 0..1; where the values lie on both sides of zero, zero is the middle. */
export function place(value: number, min: number, max: number): number {
  if (min < 0 && max > 0) return 0.5 + value / (2 * Math.max(-min, max));
  return max > min ? (value - min) / (max - min) : 0.5;
}

const BLUE = [70, 130, 255] as const;
const RED = [255, 96, 80] as const;
const GROUND = [24, 26, 34] as const;

/** Below zero blue, above it red, zero dark: how sign and size are told apart at a glance. */
export function twoSided(share: number): readonly [number, number, number] {
  const far = Math.min(1, Math.abs(share - 0.5) * 2);
  const end = share < 0.5 ? BLUE : RED;
  const mix = (index: 0 | 1 | 2): number => Math.round(GROUND[index] + (end[index] - GROUND[index]) * far);
  return [mix(0), mix(1), mix(2)];
}
