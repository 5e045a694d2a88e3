import { describe, expect, it } from "vitest";

import type { Doc, DocNode } from "./document";
import { leftOut } from "./leftout";
import { catalog } from "./model.test";
import { validate } from "./validate";

const docOf = (nodes: Record<string, DocNode>): Doc => ({ format: "anyloom", version: 1, nodes });
const told = (doc: Doc): Record<string, string> => Object.fromEntries([...leftOut(doc, catalog)].map(([id, { port, source, why }]) => [id, `${port} ${source} ${why}`]));

const NODES: Record<string, DocNode> = {
  image: { type: "t.image" },
  describe: { type: "t.describe", links: { image: "image.image" }, mode: "bypassed" },
  text: { type: "t.text", links: { text: "describe.text" } },
  gate: { type: "t.gate", links: { value: "text.text" } },
  all: { type: "t.gather", links: { item_1: "gate.value" } },
};

describe("left out", () => {
  it("is what reads a bypassed node that hands on nothing of that kind, and what needs that", () => {
    expect(told(docOf(NODES))).toEqual({ text: "text describe bypassed", gate: "value text before" }); // what is optional is done without
    expect(told(docOf({ ...NODES, describe: { ...NODES["describe"]!, mode: "active" } }))).toEqual({});
  });
  it("is nothing where a bypassed node hands on what fits", () => {
    const blur: DocNode = { type: "t.blur", links: { image: "image.image" }, mode: "bypassed" };
    const nodes = { image: NODES["image"]!, blur, again: { ...blur, links: { image: "blur.image" } }, describe: { type: "t.describe", links: { image: "again.image" } } };
    expect(told(docOf(nodes))).toEqual({});
    expect(told(docOf({ ...nodes, blur: { ...blur, links: {} } }))).toEqual({ describe: "image blur bypassed" });
    expect(told(docOf({ ...nodes, image: { ...NODES["image"]!, mode: "muted" } }))).toEqual({ describe: "image image muted" });
    expect(told(docOf({ ...nodes, blur: { ...blur, links: { image: "again.image" } } }))).toEqual({ describe: "image again bypassed" }); // a circle of them
  });
  it("names the kind that is not there, also to who takes anything", () => {
    const nodes = { ...NODES, gate: { type: "t.gate", links: { value: "describe.text" } } };
    expect(validate(docOf(nodes), catalog).map((one) => one.message)).toContain("It is left out of runs: describe is bypassed and hands on nothing of kind STRING.");
    expect(leftOut(docOf(nodes), catalog).get("gate")).toEqual({ port: "value", source: "describe", why: "bypassed", kind: "STRING" });
  });
  it("is told as a problem where it began, of what nobody muted", () => {
    const found = validate(docOf(NODES), catalog).filter((one) => one.code === "left_out");
    expect(found).toMatchObject([{ node: "text", port: "text" }]);
    expect(found[0]!.message).toBe("It is left out of runs: describe is bypassed and hands on nothing of kind STRING.");
    expect(validate(docOf({ ...NODES, describe: { ...NODES["describe"]!, mode: "muted" } }), catalog)).toEqual([]);
  });
});
