/** Names of nodes in the language of the person: found by either, and never a part of a document. */

import { expect, test } from "vitest";

import { labelIn, Catalog, type NodeType } from "../model/nodetype";
import { search } from "../model/search";
import { named, nodeWords } from "./nodes";

const PLAIN = { version: "1.0.0", description: "", effect: "pure", output: false, lane: "pool", more: null } as const;
const types: NodeType[] = [
  { ...PLAIN, id: "nextgpt.message", title: "Message", category: "NExT-GPT/conversation", inputs: [{ name: "place", kind: "COMBO", required: true, widget: { label: "media" } }, { name: "max_side", kind: "INT", required: true }], outputs: [{ name: "message", kind: "MESSAGE" }] },
  { ...PLAIN, id: "mine.shout", title: "Shout", category: "mine", inputs: [{ name: "text", kind: "STRING", required: true }], outputs: [] },
];

test("types have Chinese names, and what comes from elsewhere keeps its own", async () => {
  const catalog = new Catalog(named(types, await nodeWords("zh")), {});
  const message = catalog.types.get("nextgpt.message")!;
  expect(message).toMatchObject({ title: "消息", also: "Message", category: "NExT-GPT/conversation", group: "NExT-GPT/对话" });
  expect(labelIn(message, "place")).toBe("媒体位置");
  expect(labelIn(message, "max_side")).toBe("最大边长");
  expect(labelIn(message, "message")).toBe("消息");
  expect(catalog.types.get("mine.shout")).toEqual(types[1]);
});

test("options are called as people call them, and stay what they are", async () => {
  const [type] = named([{ ...types[0]!, inputs: [{ name: "towards", kind: "COMBO", required: false, widget: { options: ["nearest", "up", "png"] } }] }], await nodeWords("zh"));
  expect(type!.inputs[0]!.widget).toEqual({ options: ["nearest", "up", "png"], said: { nearest: "最近整数", up: "向上" } });
});

test("both names are found", async () => {
  const catalog = new Catalog(named(types, await nodeWords("zh")), {});
  for (const word of ["消息", "message", "msg", "对话"]) expect(search(catalog, word)[0]?.id).toBe("nextgpt.message");
  expect(search(catalog, "shout")[0]?.id).toBe("mine.shout");
});

test("in English they are what they are", async () => {
  expect(await nodeWords("en")).toBeNull();
  const catalog = new Catalog(named(types, null), {});
  expect(labelIn(catalog.types.get("nextgpt.message")!, "place")).toBe("media");
  expect(labelIn(catalog.types.get("nextgpt.message")!, "max_side")).toBe("max side");
  expect(labelIn(catalog.types.get("nextgpt.message")!, "gone_by")).toBe("gone by");
});
