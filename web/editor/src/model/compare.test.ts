import { describe, expect, test } from "vitest";

import { compare, lines, words } from "./compare";
import type { Doc } from "./document";
import { Catalog } from "./nodetype";

const catalog = new Catalog([], {});
const before: Doc = { format: "anyloom", version: 1, nodes: {
  a: { type: "t.text", values: { text: "a red boat" } }, b: { type: "t.show", links: { value: "a.text" } }, gone: { type: "t.show", links: { value: "a.text" } },
} };
const after: Doc = { format: "anyloom", version: 1, nodes: {
  a: { type: "t.text", values: { text: "a blue boat" }, ui: { x: 500, y: 3 } }, b: { type: "t.show", links: { value: "new.text" }, title: "B", ui: { x: 9 } }, new: { type: "t.text" },
} };

test("every node of either version has its fate, with both values", () => {
  expect(compare(before, after, catalog).map(({ node, fate, title }) => [node, fate, title])).toEqual([["a", "changed", "t.text"], ["b", "changed", "B"], ["new", "added", "t.text"], ["gone", "removed", "t.show"]]);
  expect(compare(before, after, catalog)[0]!.changes).toEqual([{ node: "a", what: "value", port: "text", before: "a red boat", after: "a blue boat" }]);
  expect(compare(before, after, catalog)[0]!.frame.x).toBe(500);
  expect(compare(before, before, catalog).every(({ fate }) => fate === "same")).toBe(true);
});

test("links that stay, come and go", () => {
  expect(lines(before, after)).toEqual([
    { source: "new", target: "b", fate: "added" }, { source: "a", target: "b", fate: "removed" }, { source: "a", target: "gone", fate: "removed" },
  ]);
});

describe("words of two texts", () => {
  test("the fewest words are replaced", () => {
    expect(words("a red boat, at night", "a blue boat, at night")).toEqual([{ text: "a ", fate: "same" }, { text: "red", fate: "removed" }, { text: "blue", fate: "added" }, { text: " boat, at night", fate: "same" }]);
    expect(words("红色的船", "蓝色的船")).toEqual([{ text: "红", fate: "removed" }, { text: "蓝", fate: "added" }, { text: "色的船", fate: "same" }]);
    expect(words("", "")).toEqual([]);
  });
  test.each([["one two three four", "zero two four five"], ["x".repeat(9), ""], ["a b\nc  d", "a\nb c d e"], ["tail same end", "head same end"]])("the pieces of %j and %j are the texts again", (old, now) => {
    const pieces = words(old, now);
    expect(pieces.filter((one) => one.fate !== "added").map((one) => one.text).join("")).toBe(old);
    expect(pieces.filter((one) => one.fate !== "removed").map((one) => one.text).join("")).toBe(now);
  });
  test("two long texts with nothing in common are told in bounded time", () => {
    const text = (word: string): string => Array.from({ length: 20_000 }, (_unused, index) => `${word}${index}`).join(" ");
    const began = performance.now();
    expect(words(text("a"), text("b"))).toHaveLength(2);
    expect(performance.now() - began).toBeLessThan(2000);
  });
});
