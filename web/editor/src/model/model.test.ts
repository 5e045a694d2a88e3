import { readFileSync, readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";

import { align } from "./align";
import { calculate } from "./arithmetic";
import { bindChat, turnOf, type ChatBinding } from "./chat";
import { changes } from "./changes";
import { clipText, copy, paste, readClip } from "./clipboard";
import { DocumentRefused, emptyDoc, readDoc, toDoc, type Doc } from "./document";
import * as edit from "./edit";
import { history, push, redo, undo } from "./history";
import { dumpJson, parseJson, same } from "./json";
import { Catalog, type NodeType } from "./nodetype";
import { offers } from "./offers";
import { portFor, search } from "./search";
import { advance } from "./seed";
import { freeBelow, inside, settle, shapeOf } from "./shape";
import { closesCycle, converters, findCycle, fits, outputKind, validate } from "./validate";

const type = (id: string, inputs: NodeType["inputs"], outputs: NodeType["outputs"], more: NodeType["more"] = null): NodeType => ({
  id, version: "1.0.0", category: "test", title: id.split(".")[1]!.replace(/_/g, " "), description: "", inputs, outputs, more, effect: "pure", output: false, lane: "pool",
});
const kind = (name: string, accepts: string[] = [], literal = false) => ({ color: "#123456", description: name, literal, accepts: [name, "*", ...accepts] });
export const catalog = new Catalog(
  [
    type("t.image", [{ name: "size", kind: "INT", required: false, default: 8, widget: { min: 1, max: 64 } }], [{ name: "image", kind: "IMAGE" }]),
    type("t.blur", [{ name: "image", kind: "IMAGE", required: true }, { name: "radius", kind: "FLOAT", required: false, default: 1 }], [{ name: "image", kind: "IMAGE" }]),
    type("t.text", [{ name: "text", kind: "STRING", required: true, widget: { multiline: true } }], [{ name: "text", kind: "STRING" }]),
    type("t.number", [{ name: "int", kind: "INT", required: false, default: 1 }], [{ name: "int", kind: "INT" }]),
    type("t.gate", [{ name: "value", kind: "*", required: true, match: "T" }], [{ name: "value", kind: "*", match: "T" }]),
    type("t.gather", [], [{ name: "all", kind: "*" }], { name: "item", kind: "*", required: false }),
    type("t.describe", [{ name: "image", kind: "IMAGE", required: true }], [{ name: "text", kind: "STRING" }]),
    type("t.sampler", [{ name: "seed", kind: "INT", required: false, default: 0, widget: { control: "seed" } }], [{ name: "image", kind: "IMAGE" }]),
  ],
  { IMAGE: kind("IMAGE"), INT: kind("INT", [], true), FLOAT: kind("FLOAT", ["INT"], true), STRING: kind("STRING", [], true), "*": kind("*", ["IMAGE"]) },
);

function chain(): Doc {
  let doc = emptyDoc("chain");
  for (const name of ["t.image", "t.blur", "t.describe"]) [doc] = edit.addNode(doc, name, { x: Object.keys(doc.nodes).length * 300, y: 0 });
  doc = edit.connect(doc, "image", "image", "blur", "image");
  return edit.connect(doc, "blur", "image", "describe", "image");
}

describe("json", () => {
  it("keeps seeds of 64 bits", () => {
    const text = '{"seed":18446744073709551615,"small":7,"real":1.5}';
    const value = parseJson(text) as { seed: bigint };
    expect(value.seed).toBe(18446744073709551615n);
    expect(dumpJson(value)).toBe(text);
    expect(parseJson('{"a":"18446744073709551615, \\" 18446744073709551615"}')).toEqual({ a: '18446744073709551615, " 18446744073709551615' });
  });
  it("compares without the order of keys", () => {
    expect(same({ a: 1, b: [1, { c: null }] }, { b: [1, { c: null }], a: 1 })).toBe(true);
    expect(same({ a: [] }, { a: {} })).toBe(false);
    expect(same({ a: 1, b: undefined }, { a: 1 })).toBe(true);
  });
});

describe("document", () => {
  it("opens every shipped workflow and writes it as it was", () => {
    const folder = new URL("../../../../workflows/", import.meta.url);
    const names = readdirSync(folder).filter((name) => name.endsWith(".json"));
    expect(names.length).toBeGreaterThan(5);
    for (const name of names) {
      const text = readFileSync(new URL(name, folder), "utf8");
      expect(same(readDoc(text), JSON.parse(text))).toBe(true);
    }
  });
  it("keeps what it does not know", () => {
    const doc = toDoc({ format: "anyloom", version: 1, future: { a: 1 }, nodes: { n: { type: "x.y", strange: 5, ui: { x: 1, y: 2, odd: true }, values: { w: { deep: [] } } } } });
    const moved = edit.move(doc, new Map([["n", { x: 9, y: 9 }]]));
    expect(moved).toEqual({ ...doc, nodes: { n: { type: "x.y", strange: 5, ui: { x: 9, y: 9, odd: true }, values: { w: { deep: [] } } } } });
  });
  it.each([
    ["nonsense", "bad_json"],
    ["[]", "not_a_workflow"],
    ["null", "not_a_workflow"],
    ['{"nodes": []}', "foreign_format"],
    ['{"3": {"class_type": "KSampler", "inputs": {}}}', "foreign_format"],
    ['{"format": "other", "nodes": {}}', "not_a_workflow"],
    ['{"format": "anyloom", "version": 3, "nodes": {}}', "newer_version"],
    ['{"format": "anyloom", "version": 1, "nodes": {"a": 5}}', "bad_node"],
    ['{"format": "anyloom", "version": 1, "nodes": {"a": {"type": "x", "links": []}}}', "bad_node"],
  ])("refuses %s as %s", (text, code) => {
    try {
      readDoc(text);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(DocumentRefused);
      expect((error as DocumentRefused).code).toBe(code);
    }
  });
  it("gives nodes without a place one", () => {
    const doc = toDoc({ format: "anyloom", version: 1, nodes: { a: { type: "x" }, b: { type: "x" } } });
    expect(doc.nodes["a"]!.ui).not.toEqual(doc.nodes["b"]!.ui);
  });
});

describe("validate", () => {
  it("finds nothing in what fits", () => expect(validate(chain(), catalog)).toEqual([]));
  it("names the port and the remedy of each fault", () => {
    let doc = edit.disconnect(chain(), "blur", "image");
    doc = edit.setValue(doc, "image", "size", 99);
    [doc] = edit.addNode(doc, "gone.node", { x: 0, y: 0 });
    const found = validate(doc, catalog);
    expect(found.map(({ code, node, port }) => [code, node, port])).toEqual([
      ["out_of_range", "image", "size"],
      ["missing_input", "blur", "image"],
      ["unknown_node", "node", undefined],
    ]);
    expect(found.every((problem) => problem.remedy)).toBe(true);
  });
  it("finds a wrong kind through a node that hands on what it gets", () => {
    let doc = chain();
    [doc] = edit.addNode(doc, "t.gate", { x: 0, y: 0 });
    [doc] = edit.addNode(doc, "t.number", { x: 0, y: 0 });
    doc = edit.connect(doc, "number", "int", "gate", "value");
    doc = { ...doc, nodes: { ...doc.nodes, blur: { ...doc.nodes["blur"]!, links: { image: "gate.value" } } } };
    expect(outputKind(doc, catalog, "gate", "value")).toBe("INT");
    expect(validate(doc, catalog)).toMatchObject([{ code: "wrong_kind", node: "blur", port: "image", kinds: ["INT", "IMAGE"] }]);
    expect(fits(doc, catalog, "gate", "value", "describe", "image")).toBe(false);
    expect(fits(doc, catalog, "image", "image", "describe", "image")).toBe(true);
  });
  it("finds cycles, and keeps links from closing one", () => {
    const doc = chain();
    expect(closesCycle(doc, "describe", "blur")).toBe(true);
    expect(edit.connect(doc, "describe", "text", "image", "size")).toBe(doc);
    const bent = { ...doc, nodes: { ...doc.nodes, image: { ...doc.nodes["image"]!, links: { size: "describe.text" } } } };
    const cycle = findCycle(bent)!;
    expect(cycle[0]).toBe(cycle[cycle.length - 1]);
    expect(new Set(cycle)).toEqual(new Set(["image", "blur", "describe"]));
    expect(findCycle(doc)).toBeUndefined();
  });
  it("finds a cycle of 20,000 nodes without a deep stack", () => {
    const nodes: Doc["nodes"] = {};
    for (let index = 0; index < 20_000; index++) nodes[`n${index}`] = { type: "t.gate", links: { value: `n${(index + 1) % 20_000}.value` } };
    expect(findCycle({ ...emptyDoc(), nodes })).toHaveLength(20_001);
  });
  it("offers converters, and puts one in between", () => {
    expect(converters(catalog, "IMAGE", "STRING").map((entry) => entry.type.id)).toEqual(["t.describe"]);
    let doc = chain();
    [doc] = edit.addNode(doc, "t.text", { x: 0, y: 0 });
    doc = { ...doc, nodes: { ...doc.nodes, text: { ...doc.nodes["text"]!, links: { text: "image.image" } } } };
    doc = edit.insertConverter(doc, "text", "text", { type: "t.describe", input: "image", output: "text" }, { x: 0, y: 0 });
    expect(validate(doc, catalog)).toEqual([]);
    expect(doc.nodes["describe_2"]!.links).toEqual({ image: "image.image" });
  });
});

describe("edit", () => {
  it("removes nodes with their links, asks and targets", () => {
    const doc = { ...chain(), asks: [{ node: "blur", input: "radius" }], targets: ["blur"] };
    const next = edit.remove(doc, new Set(["blur"]));
    expect(next.nodes["describe"]!.links).toEqual({});
    expect(next.asks).toEqual([]);
    expect(next.targets).toBeUndefined();
    expect(doc.nodes["describe"]!.links).toEqual({ image: "blur.image" });
  });
  it("bridges what it removes", () => {
    const next = edit.removeKeepingLinks(chain(), catalog, new Set(["blur"]));
    expect(next.nodes["describe"]!.links).toEqual({ image: "image.image" });
  });
  it("toggles mode and flags for all at once", () => {
    const ids = ["image", "blur"];
    const one = edit.toggleMode(chain(), ["image"], "muted");
    const both = edit.toggleMode(one, ids, "muted");
    expect(ids.map((id) => both.nodes[id]!.mode)).toEqual(["muted", "muted"]);
    expect(edit.toggleMode(both, ids, "muted").nodes["blur"]!.mode).toBeUndefined();
    const pinned = edit.toggleFlag(one, ids, "pinned");
    expect(pinned.nodes["blur"]!.ui!.pinned).toBe(true);
    expect(edit.move(pinned, new Map([["blur", { x: 999, y: 999 }]]))).toBe(pinned);
  });
  it("renames a node wherever it is named", () => {
    const next = edit.rename({ ...chain(), targets: ["blur"] }, "blur", "soft");
    expect(next.nodes["describe"]!.links).toEqual({ image: "soft.image" });
    expect(next.targets).toEqual(["soft"]);
    expect(edit.rename(next, "soft", "a.b")).toBe(next);
  });
  it("finds a place for a new node below what is there", () => {
    const doc = edit.move(chain(), new Map([["image", { x: 0, y: 0 }], ["blur", { x: 40, y: 200 }], ["describe", { x: 900, y: 0 }]]));
    const [first, second] = ["image", "blur"].map((id) => shapeOf(catalog, doc.nodes[id]!).height) as [number, number];
    expect(freeBelow(doc, catalog, "t.image", { x: 0, y: first + 30 })).toEqual({ x: 0, y: 200 + second + 30 });
    expect(freeBelow(doc, catalog, "t.image", { x: 400, y: 5 })).toEqual({ x: 400, y: 5 });
  });
  it("lets a group take along what lies in it", () => {
    const [doc, id] = edit.addGroup(chain(), { x: -20, y: -40, width: 340, height: 300, title: "in", color: "#345" });
    expect(inside(doc, catalog, doc.ui!.groups![0]!)).toEqual(["image"]);
    const moved = edit.move(doc, new Map([[id, { x: 5, y: 5 }], ["image", { x: 25, y: 45 }]]));
    expect(moved.ui!.groups![0]).toMatchObject({ x: 5, y: 5, title: "in" });
  });
  it("forgets the reroutes of a link that is gone", () => {
    const doc = edit.setReroute(chain(), "blur.image", [{ x: 1, y: 2 }]);
    expect(doc.ui!.reroutes).toEqual({ "blur.image": [{ x: 1, y: 2 }] });
    expect(edit.disconnect(doc, "blur", "image").ui!.reroutes).toEqual({});
    expect(edit.remove(doc, new Set(["image"])).ui!.reroutes).toEqual({});
  });
  it("makes no step of reroutes that stay where they are", () => {
    const doc = edit.setReroute(chain(), "blur.image", [{ x: 1, y: 2 }]);
    expect(edit.setReroute(doc, "blur.image", [{ x: 1, y: 2 }])).toBe(doc);
    expect(edit.setReroute(doc, "describe.image", [])).toBe(doc);
    expect(edit.setReroute(doc, "blur.image", [])).not.toBe(doc);
  });
  it("takes the end of a link from one input to another, with its reroutes", () => {
    const doc = edit.setReroute(chain(), "blur.image", [{ x: 1, y: 2 }]);
    const moved = edit.relink(doc, "blur", "image", "describe", "image");
    expect(moved.nodes["blur"]!.links).toEqual({});
    expect(moved.nodes["describe"]!.links).toEqual({ image: "image.image" });
    expect(moved.ui!.reroutes).toEqual({ "describe.image": [{ x: 1, y: 2 }] });
    expect(edit.relink(doc, "blur", "image", "blur", "image")).toBe(doc);
    expect(edit.relink(doc, "describe", "image", "blur", "image")).toBe(doc); // a cycle: it stays
  });
});

describe("history", () => {
  it("undoes and redoes hundreds of steps of any kind", () => {
    let now = history(emptyDoc());
    const seen: Doc[] = [now.present];
    for (let index = 0; index < 300; index++) {
      const doc = now.present;
      const next = index % 3 === 0 ? edit.addNode(doc, "t.gate", { x: index, y: 0 })[0] : index % 3 === 1 ? edit.addNote(doc, { x: 0, y: 0, width: 9, height: 9, text: `${index}`, color: "" })[0] : edit.toggleMode(doc, Object.keys(doc.nodes), "muted");
      now = push(now, next, "step");
      seen.push(now.present);
    }
    for (let index = seen.length - 2; index >= 0; index--) expect((now = undo(now)).present).toBe(seen[index]);
    expect(undo(now)).toBe(now);
    for (let index = 1; index < seen.length; index++) expect((now = redo(now)).present).toBe(seen[index]);
  });
  it("takes typing into one field as one step", () => {
    let now = history({ text: "" });
    for (const text of ["a", "ab", "abc"]) now = push(now, { text }, "type", "field", 1000 + text.length);
    now = push(now, { text: "abcd" }, "type", "field", 9000);
    expect(now.past).toHaveLength(2);
    expect(undo(now).present).toEqual({ text: "abc" });
    expect(undo(undo(now)).present).toEqual({ text: "" });
  });
  it("forgets the future with a new step", () => {
    const now = push(undo(push(history(1), 2, "")), 3, "");
    expect(redo(now)).toBe(now);
  });
});

describe("clipboard", () => {
  it("copies links within, and with them those from outside when asked", () => {
    const doc = chain();
    const clip = copy(doc, new Set(["blur", "describe"]));
    const [plain, ids] = paste(doc, clip, { x: 100, y: 100 });
    expect(ids).toEqual(["blur_2", "describe_2"]);
    expect(plain.nodes["blur_2"]).toMatchObject({ links: {}, ui: { x: 100, y: 100 } });
    expect(plain.nodes["describe_2"]!.links).toEqual({ image: "blur_2.image" });
    expect(paste(doc, clip, { x: 0, y: 0 }, true)[0].nodes["blur_2"]!.links).toEqual({ image: "image.image" });
  });
  it("takes along where links run, and not the results that hold for the original", () => {
    let doc = edit.setReroute(edit.setReroute(chain(), "describe.image", [{ x: 10, y: 20 }]), "blur.image", [{ x: 5, y: 5 }]);
    doc = edit.toggleKept(doc, ["blur"], "run-1");
    const clip = readClip(clipText(copy(doc, new Set(["blur", "describe"]))))!;
    const [next] = paste(doc, clip, { x: 300 + 40, y: 40 });
    expect(next.ui!.reroutes).toEqual({ ...doc.ui!.reroutes, "describe_2.image": [{ x: 50, y: 60 }] });
    expect(next.nodes["blur_2"]!.ui).not.toHaveProperty("kept");
    expect(next.nodes["blur"]!.ui!.kept).toBe("run-1");
  });
  it("copies thousands of nodes of one type at once", () => {
    const many: Doc = { ...emptyDoc(), nodes: Object.fromEntries(Array.from({ length: 4000 }, (_one, index) => [index ? `blur_${index + 1}` : "blur", { type: "t.blur" }])) };
    const before = performance.now();
    const [next] = paste(many, copy(many, new Set(Object.keys(many.nodes))), { x: 0, y: 0 });
    expect(Object.keys(next.nodes)).toHaveLength(8000);
    expect(next.nodes).toHaveProperty("blur_8000");
    expect(performance.now() - before).toBeLessThan(1000);
  });
  it("goes through text, between documents, notes and groups included", () => {
    let doc = chain();
    [doc] = edit.addNote(doc, { x: 5, y: 5, width: 10, height: 10, text: "hello", color: "" });
    const clip = readClip(clipText(copy(doc, new Set(["image", "note:1"]))))!;
    const [next, ids] = paste(emptyDoc(), clip, { x: 0, y: 0 });
    expect(ids).toEqual(["image", "note:1"]);
    expect(next.ui!.notes![0]!.text).toBe("hello");
  });
  it.each(["", "hello", "{", '{"format":"anyloom-clip"}', '{"format":"anyloom-clip","nodes":{"a":1},"groups":[],"notes":[]}'])("takes %j for no clip", (text) => expect(readClip(text)).toBeUndefined());
});

describe("offers", () => {
  it("lists the links that a node could have, those that replace one last", () => {
    const doc = chain();
    const found = offers(doc, catalog, "image").map(({ target, input, taken }) => [target, input, taken]);
    expect(found).toEqual([["describe", "image", true]]);
    const [more] = edit.addNode(doc, "t.gather", { x: 0, y: 0 });
    expect(offers(more, catalog, "gather").filter((one) => one.target === "gather").map((one) => `${one.source} ${one.input}`)).toEqual(["image item_1", "blur item_1", "describe item_1"]);
  });
});

describe("fields", () => {
  it.each([["1+2*3", 7], ["512*2", 1024], ["1,5", 1.5], ["１，５＊２", 3], ["=64/4", 16], ["(1+2)*-3", -9], ["2^3^2", 512], ["-2^2", -4], ["1e3", 1000], [".5", 0.5], ["10%4", 2]])("calculates %s", (text, value) => expect(calculate(text)).toBe(value));
  it.each(["", "abc", "1+", "1/0", "(1", "1;2", "alert(1)", "((((", "1 2a"])("calculates nothing from %j", (text) => expect(calculate(text)).toBeUndefined());
  it("advances seeds as they are told", () => {
    let doc = emptyDoc();
    [doc] = edit.addNode(doc, "t.sampler", { x: 0, y: 0 });
    const set = (control: string) => edit.setUi(doc, "sampler", { control: { seed: control as "fixed" } });
    expect(advance(set("increment"), catalog).nodes["sampler"]!.values).toEqual({ seed: 1 });
    expect(advance(set("decrement"), catalog).nodes["sampler"]!.values).toEqual({ seed: 0 });
    const large = edit.setValue(set("increment"), "sampler", "seed", 18446744073709551614n);
    expect(advance(large, catalog).nodes["sampler"]!.values).toEqual({ seed: 18446744073709551615n });
    const fixed = set("fixed");
    expect(advance(fixed, catalog)).toBe(fixed);
    expect(advance(set("randomize"), catalog, () => 0.5).nodes["sampler"]!.values).toEqual({ seed: 2 ** 47 });
  });
});

describe("catalog", () => {
  it("has bounds that one can calculate with", () => {
    const input = { name: "seed", kind: "INT", required: false, default: 0, widget: { min: 0, max: 18446744073709551615n as unknown as number, control: "seed" } };
    const made = new Catalog([type("t.x", [input], [])], {}).types.get("t.x")!.inputs[0]!.widget!;
    expect(Math.min(5, made.max!)).toBe(5);
    expect(made.control).toBe("seed");
  });
});

describe("search", () => {
  it("puts what begins so first, and finds letters in order", () => {
    expect(search(catalog, "im")[0]!.id).toBe("t.image");
    expect(search(catalog, "smplr")[0]!.id).toBe("t.sampler");
    expect(search(catalog, "zzz")).toEqual([]);
  });
  it("offers for a link only what it fits", () => {
    expect(search(catalog, "", { side: "input", kind: "IMAGE" }).map((entry) => entry.id)).not.toContain("t.number");
    expect(portFor(catalog, catalog.types.get("t.blur")!, { side: "input", kind: "INT" })).toEqual({ port: "radius", exact: false });
    expect(portFor(catalog, catalog.types.get("t.gather")!, { side: "input", kind: "INT" })).toEqual({ port: "item_1", exact: false });
    expect(search(catalog, "", { side: "output", kind: "STRING" })[0]!.id).toBe("t.describe");
  });
});

describe("others", () => {
  it("knows a node's size before it is drawn", () => {
    const doc = chain();
    const plain = shapeOf(catalog, doc.nodes["blur"]!);
    expect(plain.rows.map((row) => [row.input?.name, row.output?.name, row.field])).toEqual([["image", "image", false], ["radius", undefined, true]]);
    expect(shapeOf(catalog, edit.setUi(doc, "blur", { collapsed: true }).nodes["blur"]!).height).toBeLessThan(plain.height);
  });
  it("moves apart what lies on top of something", () => {
    const at = (x: number, y: number) => ({ x, y, width: 100, height: 100 });
    expect(settle(new Map([["a", at(0, 0)], ["b", at(50, 40)], ["c", at(50, 150)], ["d", at(300, 0)]]))).toEqual(new Map([["b", { x: 50, y: 130 }], ["c", { x: 50, y: 260 }]]));
  });
  it("aligns and spreads", () => {
    const frames = new Map([["a", { x: 0, y: 0, width: 10, height: 10 }], ["b", { x: 100, y: 50, width: 20, height: 10 }], ["c", { x: 30, y: 20, width: 10, height: 10 }]]);
    expect([...align(frames, "right").values()].map((place) => place.x)).toEqual([110, 100, 110]);
    expect(align(frames, "spread-x").get("c")!.x).toBe(50);
  });
  it("tells what is different", () => {
    const before = chain();
    const after = edit.move(edit.setValue(before, "image", "size", 9), new Map([["blur", { x: 1, y: 1 }]]));
    expect(changes(before, after)).toEqual([{ node: "image", what: "value", port: "size", before: undefined, after: 9 }]);
    expect(changes(before, edit.remove(before, new Set(["describe"])))).toEqual([{ node: "describe", what: "removed" }]);
  });
  it("finds the chat in the shipped chat workflow", () => {
    const doc = readDoc(readFileSync(new URL("../../../../workflows/chat.json", import.meta.url), "utf8"));
    expect(bindChat(doc)).toMatchObject({ message: "message", history: "history", save: "save_chat", reply: "reply", trace: "trace", speaker: "think" });
    expect(bindChat(emptyDoc())).toEqual({ missing: "nextgpt.message" });
    const turn = turnOf(doc, bindChat(doc) as ChatBinding, "hello", [{ name: "a.png", kind: "image" }], "output/chat.json");
    expect(turn.nodes["message"]!.values).toMatchObject({ text: "hello", files: ["a.png"], read_as: [""] });
    expect(turn.nodes["history"]!.values).toEqual({ file: "output/chat.json" });
    expect(Object.keys(turn.nodes)).toEqual(Object.keys(doc.nodes));
  });
  it("chats with any to any, whose history it brings itself", () => {
    const doc = readDoc(readFileSync(new URL("../../../../workflows/any_to_any.json", import.meta.url), "utf8"));
    const binding = bindChat(doc) as ChatBinding;
    expect(binding).toMatchObject({ message: "prompt", reply: "reply", trace: "trace" });
    const turn = turnOf(doc, binding, "hello", [{ name: "a.wav", kind: "audio" }], "output/chat.json");
    expect(turn.nodes["sound"]!.values).toEqual({ file: "a.wav" });
    expect(turn.nodes["prompt"]!.links).toMatchObject({ previous: "chat_see.conversation", image: "picture_tokens.tokens" });
    expect(turn.nodes["chat_see"]!.links).toEqual({ conversation: "chat_history.conversation", encoder: "models.encoder", projector: "models.input_projector" });
    expect(() => turnOf(doc, binding, "", [{ name: "a.mp4", kind: "video" }], "")).toThrow("a.mp4");
    expect(doc.nodes["prompt"]!.links).not.toHaveProperty("previous");
  });
});
