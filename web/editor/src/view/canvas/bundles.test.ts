import { describe, expect, it } from "vitest";

import { toDoc, type Point } from "../../model/document";
import { Catalog, type NodeType } from "../../model/nodetype";
import { bundlesOf } from "./bundles";
import { Flow } from "./flow";

const port = (name: string, kind: string) => ({ name, kind, required: true });
const blur: NodeType = {
  id: "t.blur", version: "1.0.0", category: "test", title: "blur", description: "", effect: "pure", output: false, lane: "pool", more: null,
  inputs: [port("image", "IMAGE")], outputs: [port("image", "IMAGE")],
};
const catalog = new Catalog([blur], { IMAGE: { color: "#123456", description: "", literal: false, accepts: ["IMAGE"] } });
const STILL: ReadonlyMap<string, Point> = new Map();

/** Pairs of linked nodes, each at a place. */
function pairs(...places: Point[]) {
  const nodes = places.flatMap(({ x, y }, index) => [
    [`a${index}`, { type: "t.blur", ui: { x, y } }],
    [`b${index}`, { type: "t.blur", links: { image: `a${index}.image` }, ui: { x: x + 300, y } }],
  ]);
  return toDoc({ format: "anyloom", version: 1, nodes: Object.fromEntries(nodes) });
}

describe("links from afar", () => {
  it("share a path only where they lie close to each other", () => {
    expect(bundlesOf(pairs({ x: 0, y: 0 }, { x: 0, y: 200 }), catalog, STILL)).toHaveLength(1);
    const spread = bundlesOf(pairs({ x: 0, y: 0 }, { x: 5000, y: 0 }, { x: 0, y: 5000 }), catalog, STILL);
    expect(spread).toHaveLength(3);
    expect(new Set(spread.map((one) => one.key)).size).toBe(3);
    expect(spread.every((one) => one.color === "#123456" && one.path.split("M").length === 2)).toBe(true);
  });

  it("follow a node that is dragged, and leave out what is not there", () => {
    const doc = pairs({ x: 0, y: 0 });
    const [still] = bundlesOf(doc, catalog, STILL);
    const [moved] = bundlesOf(doc, catalog, new Map([["b0", { x: 300, y: 40 }]]));
    expect(moved!.path).not.toBe(still!.path);
    expect(bundlesOf({ ...doc, nodes: { b0: doc.nodes["b0"]! } }, catalog, STILL)).toEqual([]);
  });
});

describe("nodes that come near again", () => {
  it("are told anew, as what React Flow knows of their sockets is of their plates", () => {
    const flow = new Flow();
    const doc = pairs({ x: 0, y: 0 });
    const of = (far: boolean) => flow.nodesOf(doc, catalog, new Set(), STILL, far)[0]!;
    const plate = of(true);
    expect(of(true)).toBe(plate);
    const near = of(false);
    expect(near).not.toBe(plate);
    expect(near.handles!.map((handle) => handle.id)).toEqual(["i:image", "o:image"]);
    expect(of(false)).toBe(near);
    expect(of(true)).toBe(near);
  });
});
