import { describe, expect, test } from "vitest";

import type { Doc } from "./document";
import { Catalog, type Input, type NodeType } from "./nodetype";
import { axesOf, fields, layout, Refused, toggleAxis, valuesOf } from "./sweep";

const input = (kind: string, widget: Input["widget"] = {}): Input => ({ name: "x", kind, required: true, widget });
const type = { id: "t.draw", version: "1", category: "", title: "Draw", description: "", effect: "pure", output: false, lane: "", more: null, outputs: [], inputs: [
  { name: "steps", kind: "INT", required: true, default: 20 }, { name: "on", kind: "BOOLEAN", required: false, default: false }, { name: "model", kind: "MODEL", required: true },
] } as unknown as NodeType;
const catalog = new Catalog([type], Object.fromEntries(["INT", "BOOLEAN", "MODEL"].map((name) => [name, { color: "", description: "", literal: name !== "MODEL", accepts: [] }])));
const doc: Doc = { format: "anyloom", version: 1, nodes: { a: { type: "t.draw", title: "A" }, b: { type: "t.draw", links: { steps: "a.n" } } } };

describe("values of an axis", () => {
  test("lists and ranges of numbers, equal ones once", () => {
    expect(valuesOf("1, 5; 10..30/10, 5", input("INT"))).toEqual([1, 5, 10, 20, 30]);
    expect(valuesOf("0..0.5/0.1", input("FLOAT"))).toEqual([0, 0.1, 0.2, 0.3, 0.4, 0.5]);
    expect(valuesOf("3..1", input("INT"))).toEqual([3, 2, 1]);
    expect(valuesOf("-2..-1/0.5", input("FLOAT"))).toEqual([-2, -1.5, -1]);
  });
  test("a seed of 64 bits stays what it is", () => {
    expect(valuesOf("18446744073709551615", input("INT"))).toEqual([18446744073709551615n]);
  });
  test.each(["a", "1.5", "1..9/0", "1..9000", "1e999", "70"])("%s is no whole number up to 64", (text) => {
    expect(() => valuesOf(text, input("INT", { max: 64 }))).toThrow(Refused);
  });
  test("texts by line, options in their order, truth as JSON", () => {
    expect(valuesOf("a cat, red\n\na dog", input("STRING"))).toEqual(["a cat, red", "a dog"]);
    expect(valuesOf("b\na\nzzz", input("COMBO", { options: ["a", "b", "c"] }))).toEqual(["a", "b"]);
    expect(valuesOf("false\ntrue", input("BOOLEAN"))).toEqual([false, true]);
    expect(() => valuesOf("perhaps", input("BOOLEAN"))).toThrow(Refused);
  });
});

describe("axes of a document", () => {
  test("only free fields can be one, and the document is left as it was", () => {
    expect(fields(doc, catalog, new Set(["b"])).map((one) => one.input)).toEqual(["b.on", "a.steps", "a.on"]);
    const marked = toggleAxis(doc, catalog, "a.steps");
    expect(axesOf(marked)).toEqual([{ input: "a.steps", text: "20" }]);
    expect(doc.ui).toBeUndefined();
    expect(axesOf(toggleAxis(marked, catalog, "a.steps"))).toEqual([]);
    for (const one of ["b.steps", "a.model", "c.steps", "a.nothing"]) expect(toggleAxis(doc, catalog, one)).toBe(doc);
  });
  test("what somebody else wrote there does no harm", () => {
    expect(axesOf({ ...doc, ui: { sweep: { axes: [1, null, { input: 3 }, { input: "a.steps", text: "1" }] } } })).toHaveLength(1);
    expect(axesOf({ ...doc, ui: { sweep: "no" } })).toEqual([]);
  });
});

test("of three axes there is a grid for each value of the first", () => {
  const axis = (values: number[]): { input: string; label: string; values: number[] } => ({ input: "", label: "", values });
  expect(layout([axis([1, 2]), axis([3, 4]), axis([5, 6, 7])]).map(({ title, first }) => [title, first])).toEqual([[[1], 0], [[2], 6]]);
  expect(layout([axis([5, 6, 7])])).toEqual([{ title: [], rows: [[]], columns: [5, 6, 7], first: 0 }]);
});
