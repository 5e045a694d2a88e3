import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { emptyDoc, type Doc } from "../model/document";
import { history, push, replace, undo, type History } from "../model/history";
import { Auto } from "./auto";

const doc = (seed: number, x = 0): Doc => ({ ...emptyDoc(), nodes: { n: { type: "t.n", values: { seed }, ui: { x } } } });

describe("running on change", () => {
  let busy = false;
  let runs = 0;
  let auto: Auto;
  const saw = (id: string, now: History<Doc>, on = true): void => auto.saw({ id, history: now }, on);
  beforeEach(() => {
    vi.useFakeTimers();
    [busy, runs] = [false, 0];
    auto = new Auto({ busy: () => busy, run: () => runs++ });
  });
  afterEach(() => void vi.useRealTimers());

  it("runs once after some edits, and after an undo", () => {
    const first = history(doc(1));
    saw("a", first);
    const second = push(push(first, doc(2), "value"), doc(3), "value");
    saw("a", second);
    vi.advanceTimersByTime(5000);
    expect(runs).toBe(1);
    saw("a", undo(second));
    vi.advanceTimersByTime(5000);
    expect(runs).toBe(2);
  });
  it("does not run for the seed that comes after a run: it would never end", () => {
    const first = push(history(doc(1)), doc(2), "value");
    saw("a", first);
    saw("a", replace(first, doc(99)));
    vi.advanceTimersByTime(5000);
    expect(runs).toBe(0);
  });
  it("does not run for another tab, nor for where things are drawn, nor when it is off", () => {
    saw("a", history(doc(1)));
    saw("b", history(doc(2)));
    saw("b", push(history(doc(2)), doc(2, 50), "move"));
    vi.advanceTimersByTime(5000);
    saw("b", push(history(doc(2, 50)), doc(3), "value"), false);
    vi.advanceTimersByTime(5000);
    expect(runs).toBe(0);
  });
  it("waits until the run before has ended, and then runs once", () => {
    const first = history(doc(1));
    saw("a", first);
    busy = true;
    saw("a", push(first, doc(2), "value"));
    vi.advanceTimersByTime(5000);
    saw("a", push(push(first, doc(2), "value"), doc(3), "value"));
    vi.advanceTimersByTime(5000);
    expect(runs).toBe(0);
    busy = false;
    auto.ended();
    auto.ended();
    expect(runs).toBe(1);
  });
  it("sees what is within subgraphs", () => {
    const whole = (seed: number, x = 0): Doc => ({ ...emptyDoc(), version: 2, nodes: {}, subgraphs: { s: { nodes: doc(seed, x).nodes, ui: { groups: [] } } } });
    const first = history(whole(1));
    saw("a", first);
    saw("a", push(first, whole(1, 9), "move"));
    vi.advanceTimersByTime(5000);
    expect(runs).toBe(0);
    saw("a", push(push(first, whole(1, 9), "move"), whole(2), "value"));
    vi.advanceTimersByTime(5000);
    expect(runs).toBe(1);
  });
});
