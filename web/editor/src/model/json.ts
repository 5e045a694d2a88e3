/** JSON that keeps whole numbers beyond 2^53 (seeds have 64 bits): they are bigints here, and numbers again in text. */

export type Json = null | boolean | number | bigint | string | Json[] | { [key: string]: Json };

const MARK = "\u0000big:";
/** Strings and whole numbers' tokens: digits after a point are a part of theirs. */
const TOKEN = /"(?:\\.|[^"\\])*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g;

/** Raises SyntaxError for what is no JSON. */
export function parseJson(text: string): unknown {
  if (!/\d{16,}/.test(text)) return JSON.parse(text);
  let marked = false;
  const quoted = text.replace(TOKEN, (part) => {
    if (part.length < 16 || /^"|[.eE]/.test(part) || Number.isSafeInteger(Number(part))) return part;
    marked = true;
    return `"\\u0000big:${part}"`;
  });
  return JSON.parse(marked ? quoted : text, (_key, value: unknown) =>
    typeof value === "string" && value.startsWith(MARK) ? BigInt(value.slice(MARK.length)) : value,
  );
}

export function dumpJson(value: unknown, indent = 0): string {
  let big = false;
  const text = JSON.stringify(
    value,
    (_key, part: unknown) => {
      if (typeof part !== "bigint") return part;
      big = true;
      return MARK + part.toString();
    },
    indent,
  );
  return big ? text.replace(/"\\u0000big:(-?\d+)"/g, "$1") : text;
}

/** Equal as JSON: the order of keys does not count. */
export function same(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || !a || !b || Array.isArray(a) !== Array.isArray(b)) return false;
  const left = Object.entries(a).filter(([, part]) => part !== undefined);
  const right = Object.entries(b).filter(([, part]) => part !== undefined);
  return left.length === right.length && left.every(([key, part]) => key in b && same(part, (b as Record<string, unknown>)[key]));
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The same without some of its fields. */
export function without<T extends object>(entry: T, ...keys: string[]): T {
  return Object.fromEntries(Object.entries(entry).filter(([key]) => !keys.includes(key))) as T;
}
