import { describe, expect, it } from "vitest";

import { addPublished, adopt, publication } from "./adopt";
import { checkAll } from "./check";
import { clipText, copy, paste, readClip } from "./clipboard";
import { Definitions, type Published } from "./defined";
import { emptyDoc, readDoc, toDoc, DocumentRefused, type Doc } from "./document";
import * as edit from "./edit";
import { between, detach, enclose, unpack } from "./enclose";
import { movePort, promote, promotedAs, removeOutput, renamePort, unpromote } from "./expose";
import { same, without } from "./json";
import { Catalog, type NodeType } from "./nodetype";
import { put, view } from "./scope";
import { search } from "./search";
import { advance } from "./seed";
import { shapeOf } from "./shape";
import { follow, instances, recursion } from "./subgraph";

const type = (id: string, inputs: NodeType["inputs"], outputs: NodeType["outputs"], more: Partial<NodeType> = {}): NodeType => ({
  id, version: "1.0.0", category: "test", title: id.split(".")[1]!, description: "", inputs, outputs, more: null, effect: "pure", output: false, lane: "pool", ...more,
});
const kind = (name: string, literal = false) => ({ color: "#123456", description: name, literal, accepts: [name, "*"] });
const image = { name: "image", kind: "IMAGE", required: true };
const base = new Catalog(
  [
    type("t.make", [{ name: "seed", kind: "INT", required: false, default: 0, widget: { control: "seed" } }], [{ name: "image", kind: "IMAGE" }], { effect: "seeded" }),
    type("t.blur", [image, { name: "radius", kind: "FLOAT", required: false, default: 1, widget: { min: 0, max: 9 } }], [{ name: "image", kind: "IMAGE" }]),
    type("t.join", [{ ...image, name: "a" }, { ...image, name: "b" }], [{ name: "image", kind: "IMAGE" }]),
    type("t.save", [image], [], { output: true }),
  ],
  { IMAGE: kind("IMAGE"), INT: kind("INT", true), FLOAT: kind("FLOAT", true), "*": kind("*") },
);
const TITLES = { inputs: "Inputs", outputs: "Outputs", category: "subgraphs", library: "yours" };
const catalogOf = (doc: Doc, library: Published[] = []): Catalog => new Definitions().catalogFor(base, doc, library, TITLES);

/** make → blur → blur_2 → save, with a join of make and blur beside it. */
function chain(): Doc {
  let doc = emptyDoc("chain");
  for (const name of ["t.make", "t.blur", "t.blur", "t.save", "t.join"]) [doc] = edit.addNode(doc, name, { x: Object.keys(doc.nodes).length * 300, y: 0 });
  for (const [source, target, input] of [["make", "blur", "image"], ["blur", "blur_2", "image"], ["blur_2", "save", "image"], ["make", "join", "a"], ["blur", "join", "b"]] as const) {
    doc = edit.connect(doc, source, "image", target, input);
  }
  return edit.setValue(doc, "blur", "radius", 4);
}

function enclosed(ids = ["blur", "blur_2"], doc = chain()): Doc {
  return enclose(doc, catalogOf(doc), new Set(ids), "Soften")[0];
}

/** The document with what a change made of it from inside. */
function inside(doc: Doc, path: string[], change: (part: Doc) => Doc): Doc {
  return put(doc, path, change(view(doc, path)), catalogOf(doc));
}

describe("enclosing", () => {
  it("makes ports where links cross the border, one for each source", () => {
    const doc = enclosed();
    expect(doc.version).toBe(2);
    expect(doc.nodes["soften"]).toMatchObject({ type: "subgraph:soften", links: { image: "make.image" } });
    const part = doc.subgraphs!["soften"]!;
    expect(part.inputs).toEqual([{ name: "image", kind: "IMAGE" }]);
    expect(part.outputs).toEqual([{ name: "image", kind: "IMAGE", link: "blur_2.image" }, { name: "image_2", kind: "IMAGE", link: "blur.image" }]);
    expect(part.nodes["blur"]).toMatchObject({ links: { image: "@.image" }, values: { radius: 4 } });
    expect(doc.nodes["save"]!.links).toEqual({ image: "soften.image" });
    expect(doc.nodes["join"]!.links).toEqual({ a: "make.image", b: "soften.image_2" });
    expect(checkAll(doc, catalogOf(doc))).toEqual([]);
  });
  it("is undone by unpacking, ids and links included", () => {
    const doc = chain();
    const [back, ids] = unpack(enclosed(), catalogOf(enclosed()), "soften");
    expect(ids).toEqual(["blur", "blur_2"]);
    const bare = (one: Doc) => Object.fromEntries(Object.entries(one.nodes).map(([id, node]) => [id, without(node, "ui")]));
    expect(bare(back)).toEqual(bare(doc));
    expect(back.subgraphs).toEqual({});
  });
  it("refuses what would wait for itself", () => {
    const doc = chain();
    expect(between(doc, new Set(["make", "blur_2"]))).toBe("blur");
    expect(enclose(doc, base, new Set(["make", "blur_2"]), "x")).toEqual([doc, ""]);
    expect(enclose(doc, base, new Set(), "x")).toEqual([doc, ""]);
    expect(enclose(doc, base, new Set(["note:1"]), "x")[0]).toBe(doc);
  });
  it("promotes what the workflow asks for, and runs for what it ran for", () => {
    const doc = enclosed(["blur", "blur_2"], { ...chain(), asks: [{ node: "blur", input: "radius", label: "How soft" }, { node: "make", input: "seed" }], targets: ["blur_2"] });
    expect(doc.asks).toEqual([{ node: "soften", input: "radius", label: "How soft" }, { node: "make", input: "seed" }]);
    expect(doc.targets).toEqual(["soften/blur_2"]);
    expect(edit.remove(doc, new Set(["soften"])).targets).toBeUndefined();
    expect(doc.subgraphs!["soften"]!.inputs![1]).toMatchObject({ name: "radius", default: 4, label: "How soft" });
    const [back] = unpack(edit.setValue(doc, "soften", "radius", 7), catalogOf(doc), "soften");
    expect(back.asks).toEqual([{ node: "blur", input: "radius", label: "How soft" }, { node: "make", input: "seed" }]);
    expect(back.nodes["blur"]!.values).toEqual({ radius: 7 });
    expect(back.targets).toEqual(["blur_2"]);
  });
  it("takes along groups, notes and reroutes within", () => {
    let doc = edit.setReroute(edit.setReroute(chain(), "blur_2.image", [{ x: 5, y: 5 }]), "save.image", [{ x: 9, y: 9 }]);
    [doc] = edit.addNote(doc, { x: 0, y: 0, width: 9, height: 9, text: "soft", color: "" });
    doc = enclosed(["blur", "blur_2", "note:1"], doc);
    expect(doc.ui).toMatchObject({ notes: [], reroutes: { "save.image": [{ x: 9, y: 9 }] } });
    expect(doc.subgraphs!["soften"]!.ui).toMatchObject({ notes: [{ text: "soft" }], reroutes: { "blur_2.image": [{ x: 5, y: 5 }] } });
    const [back] = unpack(doc, catalogOf(doc), "soften");
    expect(back.ui!.notes).toHaveLength(1);
    expect(Object.keys(back.ui!.reroutes!)).toEqual(["save.image", "blur_2.image"]);
  });
  it("does not take along what was kept of a run that knew the node by another path", () => {
    const doc = enclosed(["blur", "blur_2"], edit.setUi(chain(), "blur", { kept: "run" }));
    expect(doc.subgraphs!["soften"]!.nodes["blur"]!.ui).not.toHaveProperty("kept");
  });
  it("works within a subgraph", () => {
    const doc = inside(enclosed(), ["soften"], (part) => enclose(part, catalogOf(enclosed()), new Set(["blur_2"]), "More")[0]);
    expect(Object.keys(doc.subgraphs!)).toEqual(["soften", "more"]);
    expect(doc.subgraphs!["soften"]!.nodes["more"]).toMatchObject({ type: "subgraph:more", links: { image: "blur.image" } });
    expect(doc.subgraphs!["soften"]!.outputs![0]!.link).toBe("more.image");
    expect([...instances(doc)]).toEqual([["soften", { name: "soften", nodes: ["soften/blur", "soften/more/blur_2"] }], ["soften/more", { name: "more", nodes: ["soften/more/blur_2"] }]]);
    expect(checkAll(doc, catalogOf(doc))).toEqual([]);
  });
});

describe("inside", () => {
  it("shows the nodes between their borders, the same object for the same workflow", () => {
    const doc = enclosed();
    const part = view(doc, ["soften"]);
    expect(Object.keys(part.nodes)).toEqual(["@", "@out", "blur", "blur_2"]);
    expect(part.nodes["@out"]!.links).toEqual({ image: "blur_2.image", image_2: "blur.image" });
    expect(view(doc, ["soften"])).toBe(part);
    expect(view(doc, ["soften"]).nodes["blur"]).toBe(doc.subgraphs!["soften"]!.nodes["blur"]);
    expect(view(doc, ["gone"])).toBe(doc);
    expect(follow(doc, ["soften", "gone"]).depth).toBe(1);
  });
  it("brings changes back, and nothing else", () => {
    const doc = enclosed();
    expect(same(inside(doc, ["soften"], (part) => ({ ...part })), doc)).toBe(true);
    const next = inside(doc, ["soften"], (part) => edit.move(edit.setValue(part, "blur", "radius", 2), new Map([["@", { x: -900, y: 7 }]])));
    expect(next.subgraphs!["soften"]!.nodes["blur"]!.values).toEqual({ radius: 2 });
    expect(next.subgraphs!["soften"]!.ui).toMatchObject({ inputs: { x: -900, y: 7 } });
    expect(next.subgraphs!["soften"]!.ui!.outputs).toBeUndefined();
    expect(next.nodes).toBe(doc.nodes);
  });
  it("exposes what is linked to the empty socket of a border", () => {
    const doc = enclosed();
    const more = inside(doc, ["soften"], (part) => edit.connect(edit.addNode(part, "t.join", { x: 0, y: 0 })[0], "@", "+", "join", "a"));
    expect(more.subgraphs!["soften"]!.inputs).toEqual([{ name: "image", kind: "IMAGE" }, { name: "a", kind: "IMAGE" }]);
    expect(more.subgraphs!["soften"]!.nodes["join"]!.links).toEqual({ a: "@.a" });
    const out = inside(more, ["soften"], (part) => edit.connect(edit.disconnect(part, "@out", "image_2"), "join", "image", "@out", "output_1"));
    expect(out.subgraphs!["soften"]!.outputs).toEqual([{ name: "image", kind: "IMAGE", link: "blur_2.image" }, { name: "image_2", kind: "IMAGE" }, { name: "image_3", kind: "IMAGE", link: "join.image" }]);
  });
  it("tells what is wrong there by its path", () => {
    let doc = inside(enclosed(), ["soften"], (part) => edit.disconnect(edit.setValue(part, "blur", "radius", 99), "blur_2", "image"));
    doc = edit.disconnect(doc, "soften", "image");
    expect(checkAll(doc, catalogOf(doc)).map(({ code, node, port }) => [code, node, port])).toEqual([
      ["missing_input", "soften", "image"],
      ["out_of_range", "soften/blur", "radius"],
      ["missing_input", "soften/blur_2", "image"],
    ]);
  });
});

describe("ports", () => {
  it("promotes a widget with its value, its field and its bounds, and takes it back", () => {
    const doc = promote(enclosed(), base, "soften", "blur", "radius");
    expect(doc.subgraphs!["soften"]!.inputs![1]).toEqual({ name: "radius", kind: "FLOAT", default: 4 });
    expect(promotedAs(doc.subgraphs!["soften"]!.nodes["blur"], "radius")).toBe("radius");
    const instance = catalogOf(doc).of(doc.nodes["soften"]!);
    expect(instance.inputs[1]).toMatchObject({ name: "radius", kind: "FLOAT", required: false, default: 4, widget: { min: 0, max: 9 } });
    expect(shapeOf(catalogOf(doc), doc.nodes["soften"]!).rows.map((row) => [row.input?.name, row.field])).toEqual([["image", false], [undefined, false], ["radius", true]]);
    const edited = edit.setValue(doc, "soften", "radius", 8);
    const back = unpromote(edited, "soften", "radius");
    expect(back.subgraphs!["soften"]!.nodes["blur"]).toMatchObject({ values: { radius: 4 }, links: { image: "@.image" } });
    expect(back.nodes["soften"]!.values).toEqual({});
    expect(promote(doc, base, "soften", "blur", "radius")).toBe(doc);
    expect(same(unpromote(doc, "soften", "radius").subgraphs, enclosed().subgraphs)).toBe(true);
  });
  it("renames them wherever they are named", () => {
    let doc = promote(enclosed(), base, "soften", "blur", "radius");
    doc = { ...edit.setValue(doc, "soften", "radius", 8), asks: [{ node: "soften", input: "radius" }] };
    doc = renamePort(doc, "soften", "inputs", "radius", "how soft");
    doc = renamePort(doc, "soften", "inputs", "image", "how_soft");
    doc = renamePort(doc, "soften", "outputs", "image", "picture");
    expect(doc.subgraphs!["soften"]!.inputs!.map((port) => port.name)).toEqual(["how_soft_2", "how_soft"]);
    expect(doc.nodes["soften"]).toMatchObject({ values: { how_soft: 8 }, links: { how_soft_2: "make.image" } });
    expect(doc.nodes["save"]!.links).toEqual({ image: "soften.picture" });
    expect(doc.asks).toEqual([{ node: "soften", input: "how_soft" }]);
    expect(checkAll(doc, catalogOf(doc))).toEqual([]);
  });
  it("takes outputs away, and what read them is told", () => {
    const doc = removeOutput(enclosed(), "soften", "image");
    expect(doc.nodes["save"]!.links).toEqual({});
    expect(checkAll(doc, catalogOf(doc))).toMatchObject([{ code: "missing_input", node: "save", port: "image" }]);
    expect(movePort(enclosed(), "soften", "outputs", "image", 1).subgraphs!["soften"]!.outputs!.map((port) => port.name)).toEqual(["image_2", "image"]);
  });
  it("reaches instances that lie in other subgraphs", () => {
    let doc = enclosed();
    [doc] = enclose(doc, catalogOf(doc), new Set(["soften", "join"]), "Outer");
    doc = renamePort(doc, "soften", "outputs", "image_2", "first");
    expect(doc.subgraphs!["outer"]!.nodes["join"]!.links).toMatchObject({ b: "soften.first" });
    doc = renamePort(doc, "soften", "outputs", "image", "last");
    expect(doc.subgraphs!["outer"]!.outputs).toMatchObject([{ link: "soften.last" }]);
  });
});

describe("copies and the library", () => {
  it("go with their definitions, which are not doubled", () => {
    const doc = enclosed();
    const clip = readClip(clipText(copy(doc, new Set(["soften", "make"]))))!;
    const [again, ids] = paste(doc, clip, { x: 0, y: 0 });
    expect(ids).toEqual(["make_2", "soften_2"]);
    expect(Object.keys(again.subgraphs!)).toEqual(["soften"]);
    const [other] = paste(emptyDoc(), clip, { x: 0, y: 0 });
    expect(other).toMatchObject({ version: 2, nodes: { soften: { type: "subgraph:soften", links: { image: "make.image" } } } });
    expect(other.subgraphs).toEqual(doc.subgraphs);
    const changed = inside(doc, ["soften"], (part) => edit.setValue(part, "blur", "radius", 1));
    const [both] = paste(changed, clip, { x: 0, y: 0 });
    expect(both.nodes["soften_2"]!.type).toBe("subgraph:soften_2");
    expect(Object.keys(both.subgraphs!)).toEqual(["soften", "soften_2"]);
  });
  it("does not copy borders", () => {
    const part = view(enclosed(), ["soften"]);
    expect(Object.keys(copy(part, new Set(["@", "@out", "blur"])).nodes)).toEqual(["blur"]);
  });
  it("publishes one with all that is in it, and adds it to another workflow", () => {
    let doc = enclosed();
    [doc] = enclose(doc, catalogOf(doc), new Set(["soften", "join"]), "Outer");
    const file = publication(doc, "outer");
    expect(file).toMatchObject({ publishes: "outer", title: "Outer", nodes: { outer: { type: "subgraph:outer" } } });
    expect(Object.keys(file.subgraphs!)).toEqual(["soften", "outer"]);
    const [next, id] = addPublished(emptyDoc(), toDoc(JSON.parse(JSON.stringify(file))), { x: 3, y: 4 });
    expect([id, Object.keys(next.subgraphs!)]).toEqual(["outer", ["soften", "outer"]]);
    expect(addPublished(next, file, { x: 0, y: 0 })[1]).toBe("outer_2");
    const library = [{ name: "subgraphs/Outer", publishes: { title: "Outer", inputs: [{ name: "image", kind: "IMAGE" }], outputs: [{ name: "image", kind: "IMAGE" }] } }];
    const catalog = catalogOf(emptyDoc(), library);
    expect(search(catalog, "outer", { side: "input", kind: "IMAGE" }).map((one) => one.id)).toEqual(["library:subgraphs/Outer"]);
  });
  it("renames what another definition has the name of, also within", () => {
    const mine = { ...emptyDoc(), subgraphs: { a: { nodes: { x: { type: "t.make" } } } } };
    const [next, names] = adopt(mine, { a: { nodes: { y: { type: "t.blur" } } }, b: { nodes: { i: { type: "subgraph:a" } } } });
    expect([...names]).toEqual([["a", "a_2"], ["b", "b"]]);
    expect(next.subgraphs!["b"]!.nodes["i"]!.type).toBe("subgraph:a_2");
  });
  it("gives an instance a definition of its own", () => {
    const doc = detach(enclosed(), "soften");
    expect(doc.nodes["soften"]!.type).toBe("subgraph:soften_2");
    expect(doc.subgraphs!["soften_2"]!.nodes).toBe(doc.subgraphs!["soften"]!.nodes);
  });
});

describe("definitions", () => {
  it("keep their types and the catalog while nothing of their border changes", () => {
    const definitions = new Definitions();
    const doc = enclosed();
    const first = definitions.catalogFor(base, doc, [], TITLES);
    const moved = inside(doc, ["soften"], (part) => edit.move(part, new Map([["blur", { x: 1, y: 1 }]])));
    expect(definitions.catalogFor(base, moved, [], TITLES)).toBe(first);
    const wider = promote(moved, base, "soften", "blur", "radius");
    expect(definitions.catalogFor(base, wider, [], TITLES)).not.toBe(first);
    expect(first.types.get("t.blur")).toBe(base.types.get("t.blur"));
  });
  it("tell what they contain: results, chance, seeds to be changed after a run", () => {
    let doc = enclosed(["make", "save", "blur", "blur_2", "join"]);
    doc = promote(doc, base, "soften", "make", "seed");
    const found = catalogOf(doc).of(doc.nodes["soften"]!);
    expect([found.output, found.effect, found.inputs[0]!.widget!.control]).toEqual([true, "seeded", "seed"]);
    const counted = edit.setUi(doc, "soften", { control: { seed: "increment" } });
    expect(advance(counted, catalogOf(doc)).nodes["soften"]!.values).toEqual({ seed: 1 });
    const within = inside(enclosed(["make"]), ["soften"], (part) => edit.setUi(part, "make", { control: { seed: "increment" } }));
    expect(advance(within, catalogOf(within)).subgraphs!["soften"]!.nodes["make"]!.values).toEqual({ seed: 1 });
  });
  it("cannot contain themselves", () => {
    const doc = inside(enclosed(), ["soften"], (part) => edit.addNode(part, "subgraph:soften", { x: 0, y: 0 })[0]);
    expect(recursion(doc)).toBe("soften");
    expect(checkAll(doc, base)).toMatchObject([{ code: "recursion" }]);
    expect(catalogOf(doc).of(doc.nodes["soften"]!).missing).toBeUndefined(); // it can still be drawn, and taken out
    expect(instances(doc).size).toBe(0);
  });
  it.each([
    ['{"format":"anyloom","version":2,"nodes":{},"subgraphs":[]}', "bad_subgraph"],
    ['{"format":"anyloom","version":2,"nodes":{},"subgraphs":{"a":{}}}', "bad_subgraph"],
    ['{"format":"anyloom","version":2,"nodes":{},"subgraphs":{"a":{"nodes":{},"inputs":[{"name":1}]}}}', "bad_subgraph"],
    ['{"format":"anyloom","version":2,"nodes":{},"subgraphs":{"a":{"nodes":{"x":{}}}}}', "bad_node"],
    ['{"format":"anyloom","version":3,"nodes":{}}', "newer_version"],
  ])("refuses %s as %s", (text, code) => {
    try {
      readDoc(text);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(DocumentRefused);
      expect((error as DocumentRefused).code).toBe(code);
    }
  });
});
