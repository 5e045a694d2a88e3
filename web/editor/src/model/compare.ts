/** Compare: two versions of a workflow node by node, and two texts word by word. */

import { changes, type Change } from "./changes";
import { links, type Doc, type Frame } from "./document";
import { frameOf } from "./shape";
import type { Catalog } from "./nodetype";

export type Fate = "added" | "removed" | "changed" | "same";

export interface Compared {
  node: string;
  title: string;
  fate: Fate;
  changes: Change[];
  /** where it lies: in the later version, where it is in both */
  frame: Frame;
}

/** Every node of either version, those that differ first. */
export function compare(before: Doc, after: Doc, catalog: Catalog): Compared[] {
  const byNode = new Map<string, Change[]>();
  for (const change of changes(before, after)) byNode.set(change.node, [...(byNode.get(change.node) ?? []), change]);
  const rank: Record<Fate, number> = { changed: 0, added: 1, removed: 2, same: 3 };
  return [...new Set([...Object.keys(after.nodes), ...Object.keys(before.nodes)])]
    .map((node) => {
      const [old, now] = [before.nodes[node], after.nodes[node]];
      const fate: Fate = !old ? "added" : !now ? "removed" : byNode.has(node) ? "changed" : "same";
      const shown = (now ?? old)!;
      return { node, title: shown.title || catalog.of(shown).title, fate, changes: (byNode.get(node) ?? []).filter((one) => one.what !== "added" && one.what !== "removed"), frame: frameOf(catalog, shown) };
    })
    .sort((a, b) => rank[a.fate] - rank[b.fate]);
}

export interface Line {
  source: string;
  target: string;
  fate: Exclude<Fate, "changed">;
}

/** Every link of either version, once. */
export function lines(before: Doc, after: Doc): Line[] {
  const key = (link: { source: string; output: string; target: string; input: string }): string => `${link.source}.${link.output} ${link.target}.${link.input}`;
  const [old, now] = [new Map(links(before).map((link) => [key(link), link])), new Map(links(after).map((link) => [key(link), link]))];
  const found: Line[] = [...now].map(([id, { source, target }]) => ({ source, target, fate: old.has(id) ? "same" : "added" }));
  for (const [id, { source, target }] of old) if (!now.has(id)) found.push({ source, target, fate: "removed" });
  return found;
}

export interface Piece {
  text: string;
  fate: Exclude<Fate, "changed">;
}

/** Beyond so many words on both sides what is between equal ends is told as replaced. */
const MOST = 4_000_000;

/** What was taken out of a text and put in, by words; of texts without spaces by letters. Joined they are the texts again. */
export function words(before: string, after: string): Piece[] {
  const split = (text: string): string[] => text.match(/\s+|[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? [];
  const [old, now] = [split(before), split(after)];
  let start = 0;
  while (start < old.length && start < now.length && old[start] === now[start]) start++;
  let end = 0;
  while (end < old.length - start && end < now.length - start && old[old.length - 1 - end] === now[now.length - 1 - end]) end++;
  const [a, b] = [old.slice(start, old.length - end), now.slice(start, now.length - end)];
  const found: Piece[] = [];
  const put = (text: string, fate: Piece["fate"]): void => {
    if (!text) return;
    const last = found[found.length - 1];
    if (last?.fate === fate) last.text += text;
    else found.push({ text, fate });
  };
  put(old.slice(0, start).join(""), "same");
  if (a.length * b.length > MOST) {
    put(a.join(""), "removed");
    put(b.join(""), "added");
  } else for (const [text, fate] of walk(a, b)) put(text, fate);
  put(old.slice(old.length - end).join(""), "same");
  return found;
}

/** The longest common subsequence of words, walked from the front. */
function* walk(a: readonly string[], b: readonly string[]): Generator<[string, Piece["fate"]]> {
  const width = b.length + 1;
  const lengths = new Uint16Array((a.length + 1) * width);
  for (let row = a.length - 1; row >= 0; row--) {
    for (let column = b.length - 1; column >= 0; column--) {
      lengths[row * width + column] = a[row] === b[column] ? lengths[(row + 1) * width + column + 1]! + 1 : Math.max(lengths[(row + 1) * width + column]!, lengths[row * width + column + 1]!);
    }
  }
  let [row, column] = [0, 0];
  while (row < a.length || column < b.length) {
    if (row < a.length && column < b.length && a[row] === b[column]) {
      yield [a[row++]!, "same"];
      column++;
    } else if (column >= b.length || (row < a.length && lengths[(row + 1) * width + column]! >= lengths[row * width + column + 1]!)) yield [a[row++]!, "removed"];
    else yield [b[column++]!, "added"];
  }
}
