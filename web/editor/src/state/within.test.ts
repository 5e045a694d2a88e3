import { expect, it, vi } from "vitest";

import { toDoc } from "../model/document";

/** Commands that once looked for the nodes of the workflow, while a person was in one of its subgraphs. */
vi.stubGlobal("location", { protocol: "http:", host: "x" });
vi.stubGlobal("navigator", { language: "en" });
const { newTab, openTab, active, runName } = await import("./workspace");
const { paintable } = await import("./painting");
const { use } = await import("./sweep");

it("masks are painted, and sweeps used, wherever one is", () => {
  const nodes = { picture: { type: "media.load_image", values: { file: "a.png" }, ui: { x: 0, y: 0 } } };
  const doc = toDoc({ format: "anyloom", version: 2, nodes: { one: { type: "subgraph:s" }, seed: { type: "t.n" } }, subgraphs: { s: { nodes } } });
  openTab(newTab(doc, "s", { inside: ["one"] }));
  expect(paintable("picture")).toBe(true);
  expect(paintable("one")).toBe(false);
  use({ values: { "seed.value": 7 }, run: "r" });
  expect(active().history.present.nodes["seed"]!.values).toEqual({ value: 7 });
  expect(active().inside).toEqual(["one"]);
});

it("what was closed with work in it can be had back, the last one first", async () => {
  vi.stubGlobal("innerWidth", 1000);
  vi.stubGlobal("innerHeight", 800);
  const { close, command } = await import("./commands");
  const made = ["a", "b"].map((title) => newTab(toDoc({ format: "anyloom", version: 1, nodes: { n: { type: "t.n" } } }), title, { saved: null }));
  for (const tab of made) openTab(tab);
  for (const tab of made) close(tab.id);
  for (const tab of [...made].reverse()) {
    command("reopen");
    expect(active().id).toBe(tab.id);
  }
  command("reopen");
  expect(active().id).toBe(made[0]!.id);
});

it("runs have names that the server takes", () => {
  const long = toDoc({ format: "anyloom", version: 1, title: "\u{1f600}".repeat(300), nodes: {} });
  expect(runName(newTab(long, ""))).toBe("\u{1f600}".repeat(200));
  expect(runName(newTab(toDoc({ format: "anyloom", version: 1, nodes: {} }), "tab"))).toBe("tab");
});
