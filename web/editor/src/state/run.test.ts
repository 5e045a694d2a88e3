import { describe, expect, it } from "vitest";

import { apply, filesOf, fraction, newRun, ofRecord, shown, stateOf } from "./run";

const event = (seq: number, type: string, more: object = {}) => ({ seq, type, ...more });

describe("run", () => {
  it("follows a run to its end", () => {
    let run = apply(newRun("r", "x"), [
      event(1, "queued"), event(2, "started", { nodes: 4 }), event(3, "cached", { nodes: ["a"] }),
      event(4, "running", { node: "b" }), event(5, "progress", { node: "b", done: 2, total: 4 }), event(6, "chunk", { node: "b", text: "he" }), event(7, "chunk", { node: "b", text: "llo" }),
    ]);
    expect(run.nodes["a"]!.status).toBe("cached");
    expect(run.nodes["b"]).toMatchObject({ status: "running", done: 2, total: 4, text: "hello" });
    expect(fraction(run)).toBeCloseTo(1.5 / 4);
    run = apply(run, [
      event(8, "done", { node: "b", ms: 12 }), event(9, "failed", { node: "c", error: { code: "x", message: "no", port: "p" } }), event(10, "blocked", { node: "d", by: "c" }),
      event(11, "output", { node: "b", outputs: { file: [{ file: { folder: "output", name: "a.png", media_type: "image/png", bytes: 5 } }] } }),
      event(12, "finished", { status: "partial", seconds: 0.5 }),
    ]);
    expect([run.status, run.nodes["b"]!.status, run.nodes["c"]!.status, run.nodes["d"]!.status]).toEqual(["partial", "done", "failed", "blocked"]);
    expect(run.errors).toMatchObject([{ node: "c", port: "p" }]);
    expect(filesOf(run.nodes["b"]!.outputs).map((file) => file.name)).toEqual(["a.png"]);
    expect(fraction(run)).toBe(1);
  });
  it("counts the parts of a mapped node to the node", () => {
    const run = apply(newRun("r", "x"), [event(1, "running", { node: "m#0" }), event(2, "done", { node: "m#0", ms: 2 }), event(3, "done", { node: "m#1", ms: 3 }), event(4, "running", { node: "g/inner" })]);
    expect(run.nodes["m"]).toMatchObject({ status: "running", ms: 5, parts: 2 });
    expect(run.nodes["g"]!.status).toBe("running");
  });
  it("goes on showing what the runs before made of nodes that are not computed again", () => {
    const first = apply(newRun("1", "x"), [event(1, "chunk", { node: "a", text: "hi" }), event(2, "done", { node: "a" }), event(3, "finished", { status: "succeeded" })]);
    const second = apply(newRun("2", "x", 2, first), [event(1, "cached", { nodes: ["a"] }), event(2, "running", { node: "b" })]);
    expect(shown(second, "a")).toMatchObject({ text: "hi" });
    expect(shown(newRun("3", "x", 2, second), "a")).toMatchObject({ text: "hi" });
    expect(shown(apply(second, [event(3, "running", { node: "a" })]), "a")).not.toHaveProperty("text");
    expect(shown(second, "b")).toEqual({ status: "running" });
  });
  it("shows at an instance of a subgraph what the nodes in it do", () => {
    const inside = new Map([["o", ["o/i/a", "o/b", "o/c"]], ["o/i", ["o/i/a"]]]);
    let run = apply(newRun("1", "x", 4, undefined, inside), [event(1, "running", { node: "o/i/a" }), event(2, "progress", { node: "o/i/a", done: 3, total: 8 }), event(3, "running", { node: "loop/grown" })]);
    expect(run.nodes["loop"]!.status).toBe("running");
    expect(stateOf(run, "o")).toMatchObject({ status: "running", done: 3, total: 8 });
    expect(stateOf(run, "o/i")).toMatchObject({ status: "running" });
    expect(stateOf(run, "o")).toBe(stateOf(run, "o"));
    run = apply(run, [event(4, "done", { node: "o/i/a", ms: 5 }), event(5, "running", { node: "o/b#1" }), event(6, "chunk", { node: "o/b", text: "hi" })]);
    expect(stateOf(run, "o")).toMatchObject({ status: "running", done: 1, total: 3, text: "hi", ms: 5 });
    expect(stateOf(run, "o/i")).toMatchObject({ status: "done" });
    const failed = apply(run, [event(7, "failed", { node: "o/b", error: { code: "x", message: "no good" } })]);
    expect(stateOf(failed, "o")).toMatchObject({ status: "failed", error: { message: "b: no good" } });
    expect(failed.errors).toMatchObject([{ node: "o/b" }]);
    run = apply(run, [event(7, "done", { node: "o/b" }), event(8, "output", { node: "o/b", outputs: { text: "hi" } }), event(9, "finished", { status: "succeeded" })]);
    expect(stateOf(run, "o")).toMatchObject({ status: "done", outputs: { text: "hi" } });
    const again = apply(newRun("2", "x", 4, run, inside), [event(1, "cached", { nodes: ["o/i/a", "o/b", "o/c"] })]);
    expect(stateOf(again, "o")!.status).toBe("cached");
    expect(shown(again, "o")).toMatchObject({ text: "hi", outputs: { text: "hi" } });
    expect(stateOf(newRun("3", "x", 4, undefined, inside), "o")).toBeUndefined();
  });
  it("takes a run of the past from its record", () => {
    const run = ofRecord({ id: "r", status: "partial", number: 1, name: "", client: "", priority: 0, created: 1, started: 2, finished: 4, nodes: 2, result: { s: { text: "hi" } }, errors: [{ code: "x", message: "m", node: "t" }], paused: [] });
    expect(run).toMatchObject({ seconds: 2, nodes: { s: { outputs: { text: "hi" } }, t: { status: "failed" } } });
  });
});
