/** Library: saved workflows in folders, and those that are used much before those that are not. */

export interface Folder<T> {
  name: string;
  folders: Folder<T>[];
  entries: T[];
}

/** By the parts of their names; folders and entries in the order of their names. */
export function folders<T extends { name: string }>(list: readonly T[]): Folder<T> {
  const root: Folder<T> = { name: "", folders: [], entries: [] };
  for (const entry of [...list].sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }))) {
    let at = root;
    for (const part of entry.name.split("/").slice(0, -1)) {
      let next = at.folders.find((folder) => folder.name === part);
      if (!next) at.folders.push((next = { name: part, folders: [], entries: [] }));
      at = next;
    }
    at.entries.push(entry);
  }
  return root;
}

/** How much something is used: a count that halves in HALF_MS, as it was at a moment. */
export interface Use {
  count: number;
  at: number;
}
export type Uses = Readonly<Record<string, Use>>;

const HALF_MS = 14 * 24 * 3600 * 1000;
const KEPT = 200;

export function weight(use: Use | undefined, now: number): number {
  return use ? use.count * 0.5 ** (Math.max(0, now - use.at) / HALF_MS) : 0;
}

/** One use more; of more than KEPT those that are used least are forgotten. */
export function used(uses: Uses, name: string, now: number): Uses {
  const all = Object.entries({ ...uses, [name]: { count: weight(uses[name], now) + 1, at: now } });
  return Object.fromEntries(all.sort(([, a], [, b]) => weight(b, now) - weight(a, now)).slice(0, KEPT));
}

/** Used much first; what was never used stays in the order that it has. */
export function byUse<T extends { name: string }>(list: readonly T[], uses: Uses, now: number): T[] {
  return list.map((entry, index) => ({ entry, index, weight: weight(uses[entry.name], now) })).sort((a, b) => b.weight - a.weight || a.index - b.index).map(({ entry }) => entry);
}
