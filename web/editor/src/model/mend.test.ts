import { describe, expect, it } from "vitest";

import { readClip } from "./clipboard";
import { DocumentRefused, toDoc, type Doc } from "./document";
import { Catalog } from "./nodetype";
import { frameOf } from "./shape";

const catalog = new Catalog([], {});
const of = (more: object, node: object = {}): Doc => toDoc({ format: "anyloom", version: 2, nodes: { a: { type: "t.text", ui: { x: 0, y: 0 }, ...node } }, ...more });

describe("what is only drawn", () => {
  it("has titles that are text", () => {
    const doc = of({ title: { a: 1 }, description: [1] }, { title: 5 });
    expect([doc.title, doc.description, doc.nodes["a"]!.title]).toEqual([undefined, undefined, "5"]);
    const { s } = of({ subgraphs: { s: { title: {}, nodes: {}, inputs: [{ name: "x", kind: "INT", label: {} }] } } }).subgraphs!;
    expect(s).toEqual({ nodes: {}, inputs: [{ name: "x", kind: "INT" }] });
  });
  it("has sizes and places that are numbers", () => {
    const doc = of({}, { ui: { x: 1e300, y: -1e300, width: "abc", height: {}, color: {}, kept: 7, control: { seed: {} }, odd: 1 } });
    expect(Object.values(frameOf(catalog, doc.nodes["a"]!)).every((side) => Math.abs(side) < 1e6)).toBe(true);
    expect(doc.nodes["a"]!.ui).toEqual({ x: 0, y: 0, odd: 1 });
  });
  it("has groups, notes and reroutes that can be drawn", () => {
    expect(of({ ui: { groups: { a: 1 }, notes: [null, 5], reroutes: [1] } }).ui).toEqual({ groups: [], notes: [], reroutes: {} });
    expect(of({ ui: 5 }).ui).toEqual({});
    const { groups, notes, reroutes } = of({
      ui: { groups: [{ id: "group:1", title: {}, color: {}, x: 0, y: 0, width: "w" }, { id: "group:1", odd: 1 }], notes: [{ text: 5 }], reroutes: { "a.x": 5, "a.y": [{ x: 1, y: 2 }], "a.z": [{ x: "1" }] } },
    }).ui!;
    expect(groups!.map((group) => [group.id, group.title, group.width])).toEqual([["group:1", "", 280], ["group:2", "", 280]]);
    expect(groups![1]!["odd" as "id"]).toBe(1);
    expect(notes).toMatchObject([{ id: "note:1", text: "" }]);
    expect(reroutes).toEqual({ "a.y": [{ x: 1, y: 2 }] });
    const { ui } = of({ subgraphs: { s: { nodes: {}, ui: { groups: 5, inputs: 5, outputs: { x: "1", y: 2 } } } } }).subgraphs!["s"]!;
    expect(ui).toEqual({ groups: [], inputs: undefined, outputs: { y: 2 } });
  });
  it("is mended in what is pasted, too", () => {
    const clip = readClip(JSON.stringify({ format: "anyloom-clip", version: 1, nodes: { a: { type: "t.text", title: {} } }, groups: [{ title: {} }], notes: [] }))!;
    expect(clip.nodes["a"]!.title).toBeUndefined();
    expect(clip.groups).toMatchObject([{ id: "group:1", title: "" }]);
  });
});

describe("what counts", () => {
  it.each<[object, object, string]>([
    [{}, { links: { image: 5 } }, "bad_link"],
    [{}, { links: { image: null } }, "bad_link"],
    [{ asks: { a: 1 } }, {}, "bad_asks"],
    [{ asks: [null] }, {}, "bad_asks"],
    [{ targets: { a: 1 } }, {}, "bad_targets"],
    [{ targets: [5] }, {}, "bad_targets"],
    [{ subgraphs: { s: { nodes: {}, outputs: [{ name: "o", kind: "INT", link: 5 }] } } }, {}, "bad_subgraph"],
  ])("%j %j is refused", (more, node, code) => {
    try {
      of(more, node);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(DocumentRefused);
      expect((error as DocumentRefused).code).toBe(code);
    }
  });
});
