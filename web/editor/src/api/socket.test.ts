import { decode, encode } from "@msgpack/msgpack";
import { afterEach, describe, expect, it, vi } from "vitest";

import type { Event } from "./schema";
import { Socket } from "./socket";

class Wire {
  static readonly OPEN = 1;
  readyState = 1;
  binaryType = "";
  sent: Record<string, unknown>[] = [];
  onopen?: () => void;
  onmessage?: (message: { data: ArrayBuffer }) => void;
  onclose?: () => void;
  send(data: Uint8Array): void {
    this.sent.push(decode(data, { useBigInt64: false }) as Record<string, unknown>);
  }
  close(): void {
    this.readyState = 3;
    this.onclose?.();
  }
  push(frame: unknown): void {
    this.onmessage?.({ data: encode(frame).slice().buffer });
  }
}

function setUp() {
  vi.useFakeTimers();
  vi.stubGlobal("WebSocket", Wire);
  const wires: Wire[] = [];
  const seen: Event[] = [];
  const links: string[] = [];
  const gone: string[] = [];
  const socket = new Socket("ws://x", (_run, events) => seen.push(...events), (link) => links.push(link), () => {
    const wire = new Wire();
    wires.push(wire);
    return wire as unknown as WebSocket;
  }, (run) => gone.push(run));
  socket.open();
  wires[0]!.onopen!();
  return { socket, wires, seen, links, gone };
}

afterEach(() => vi.useRealTimers());

describe("socket", () => {
  it("goes on after a loss where it was, and tells no event twice", async () => {
    const { socket, wires, seen, links } = setUp();
    void socket.watch("r");
    const events = (...numbers: number[]) => ({ op: "events", run: "r", events: numbers.map((seq) => ({ seq, type: "log" })) });
    wires[0]!.push(events(1, 2));
    wires[0]!.close();
    await vi.advanceTimersByTimeAsync(400);
    wires[1]!.onopen!();
    expect(wires[1]!.sent[0]).toMatchObject({ op: "watch", run: "r", after: 2 });
    wires[1]!.push(events(2, 3));
    expect(seen.map((event) => event.seq)).toEqual([1, 2, 3]);
    expect(links).toEqual(["connecting", "open", "lost", "connecting", "open"]);
    wires[1]!.push({ op: "events", run: "r", events: [{ seq: 9, type: "finished" }] });
    wires[1]!.close();
    await vi.advanceTimersByTimeAsync(10_000);
    wires[2]!.onopen!();
    expect(wires[2]!.sent).toEqual([]);
  });
  it("tells of a run that a replaced server does not know", async () => {
    const { socket, wires, gone } = setUp();
    socket.adopt("r");
    wires[0]!.close();
    await vi.advanceTimersByTimeAsync(400);
    wires[1]!.onopen!();
    wires[1]!.push({ id: wires[1]!.sent[0]!["id"], ok: false, error: { code: "unknown_run", message: "there is no run." } });
    await vi.advanceTimersByTimeAsync(1);
    expect(gone).toEqual(["r"]);
    socket.adopt("s"); // a connection that is lost while it asks loses no run
    wires[1]!.close();
    await vi.advanceTimersByTimeAsync(1000);
    wires[2]!.onopen!();
    wires[2]!.close();
    await vi.advanceTimersByTimeAsync(1000);
    expect(gone).toEqual(["r"]);
  });
  it("fails what was asked when the connection goes", async () => {
    const { socket, wires } = setUp();
    const asked = socket.request("system");
    wires[0]!.close();
    await expect(asked).rejects.toMatchObject({ problem: { code: "no_server" } });
    await expect(socket.request("system")).rejects.toMatchObject({ problem: { code: "no_server" } });
  });
  it("hands on the server's words", async () => {
    const { socket, wires } = setUp();
    const asked = socket.request("submit", { document: {} });
    wires[0]!.push({ id: wires[0]!.sent[0]!["id"], ok: false, error: { code: "bad", message: "no.", problems: [{ code: "a", message: "one" }] } });
    await expect(asked).rejects.toMatchObject({ message: "no.", problems: [{ code: "a" }] });
  });
  it("sends large whole numbers as whole numbers", () => {
    const { socket, wires } = setUp();
    void socket.request("submit", { a: 2 ** 40, b: [7n, 1.5, 3], c: 18446744073709551615n }).catch(() => undefined);
    expect(wires[0]!.sent[0]).toMatchObject({ a: 2 ** 40, b: [7, 1.5, 3], c: 18446744073709552000 });
  });

  it("asks for memory and queue while somebody looks, again after a loss", async () => {
    const { socket, wires } = setUp();
    const heard: unknown[] = [];
    socket.watchSystem((state) => heard.push(state));
    expect(wires[0]!.sent.map((frame) => frame["op"])).toEqual(["watch_system"]);
    wires[0]!.push({ op: "system", system: { process_bytes: 5e9 } });
    wires[0]!.close();
    await vi.advanceTimersByTimeAsync(400);
    wires[1]!.onopen!();
    expect(wires[1]!.sent[0]).toMatchObject({ op: "watch_system" });
    wires[1]!.push({ op: "system", system: { process_bytes: 6e9 } });
    expect(heard).toEqual([{ process_bytes: 5e9 }, { process_bytes: 6e9 }]);
    socket.watchSystem(undefined);
    expect(wires[1]!.sent[1]).toMatchObject({ op: "unwatch_system" });
    wires[1]!.push({ op: "system", system: { process_bytes: 7e9 } });
    expect(heard).toHaveLength(2);
    wires[1]!.close();
    await vi.advanceTimersByTimeAsync(1000);
    wires[2]!.onopen!();
    expect(wires[2]!.sent).toEqual([]);
  });
});
