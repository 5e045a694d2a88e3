/** History: the documents before and after this one. Documents share what they have in common, so steps cost little. */

export interface History<T> {
  readonly present: T;
  readonly past: readonly Step<T>[];
  readonly future: readonly Step<T>[];
}
interface Step<T> {
  readonly value: T;
  readonly label: string;
  readonly key: string;
  readonly time: number;
}

export const LIMIT = 500;
const TOGETHER_MS = 800;

export function history<T>(present: T): History<T> {
  return { present, past: [], future: [] };
}

/** A further step. Steps of one `key` (typing into one field) that follow at once are a single one. */
export function push<T>(before: History<T>, present: T, label: string, key = "", time = Date.now()): History<T> {
  if (present === before.present) return before;
  const last = before.past[before.past.length - 1];
  if (key && last?.key === key && time - last.time < TOGETHER_MS && !before.future.length) {
    return { present, past: [...before.past.slice(0, -1), { ...last, time }], future: [] };
  }
  return { present, past: [...before.past.slice(-(LIMIT - 1)), { value: before.present, label, key, time }], future: [] };
}

/** Another present without a step: what nobody would want to undo. */
export function replace<T>(before: History<T>, present: T): History<T> {
  return { ...before, present };
}

export function undo<T>(now: History<T>): History<T> {
  const step = now.past[now.past.length - 1];
  if (!step) return now;
  return { present: step.value, past: now.past.slice(0, -1), future: [{ ...step, value: now.present }, ...now.future] };
}

export function redo<T>(now: History<T>): History<T> {
  const [step, ...future] = now.future;
  if (!step) return now;
  return { present: step.value, past: [...now.past, { ...step, value: now.present, key: "" }], future };
}
