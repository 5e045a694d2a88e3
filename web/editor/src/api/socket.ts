/**
 * Socket: one connection for everything that is pushed. It opens itself again after a loss, and takes every watched run up
 * at the number of the last event that it saw, so no state event is lost and none is told twice.
 */

import { decode, encode } from "@msgpack/msgpack";

import type { Event, Problem } from "./schema";
import { ApiError } from "./http";

export type Link = "connecting" | "open" | "lost" | "refused";
export type Listener = (run: string, events: Event[]) => void;

interface Pending {
  resolve: (value: unknown) => void;
  reject: (error: Error) => void;
}
interface Watch {
  after: number;
}
const FIRST_WAIT_MS = 300;
const LAST_WAIT_MS = 5000;
const PING_MS = 20_000;
const BIG = 2 ** 32;

export class Socket {
  private socket: WebSocket | undefined;
  private readonly pending = new Map<number, Pending>();
  private readonly watches = new Map<string, Watch>();
  private next = 1;
  private wait = FIRST_WAIT_MS;
  private closed = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private heard = 0;
  private system: ((state: Record<string, unknown>) => void) | undefined;

  constructor(
    private readonly url: string,
    private readonly onEvents: Listener,
    private readonly onLink: (link: Link) => void,
    private readonly make: (url: string) => WebSocket = (address) => new WebSocket(address, "anyloom.msgpack"),
    /** a run that was followed, and that the server does not know (any more) */
    private readonly onGone: (run: string) => void = () => undefined,
  ) {}

  open(): void {
    if (this.closed) return;
    this.onLink("connecting");
    const socket = this.make(this.url);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.wait = FIRST_WAIT_MS;
      this.heard = Date.now();
      this.onLink("open");
      for (const run of this.watches.keys()) void this.rewatch(run);
      if (this.system) this.request("watch_system").catch(() => undefined);
      this.ping(socket);
    };
    socket.onmessage = (message: MessageEvent<ArrayBuffer>) => {
      this.heard = Date.now();
      this.receive(message.data);
    };
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.socket = undefined;
      const gone = new ApiError(0, { code: "no_server", message: "The connection to the server was lost.", remedy: "It is opened again by itself." });
      for (const request of this.pending.values()) request.reject(gone);
      this.pending.clear();
      this.onLink("lost");
      if (!this.closed) this.timer = setTimeout(() => this.open(), this.wait);
      this.wait = Math.min(this.wait * 1.7, LAST_WAIT_MS);
    };
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    this.socket?.close();
  }

  /** Try now instead of after the wait. */
  retry(): void {
    if (this.socket || this.closed) return;
    clearTimeout(this.timer);
    this.open();
  }

  async request<T>(op: string, fields: Record<string, unknown> = {}): Promise<T> {
    const socket = this.socket;
    if (!socket || socket.readyState !== WebSocket.OPEN) {
      throw new ApiError(0, { code: "no_server", message: "The server is not connected.", remedy: "Is it running? It is asked again by itself." });
    }
    const id = this.next++;
    socket.send(encode({ op, id, ...(wide(fields) as object) }, { useBigInt64: true, ignoreUndefined: true }));
    return new Promise<T>((resolve, reject) => this.pending.set(id, { resolve: resolve as (value: unknown) => void, reject }));
  }

  /** Hear of a run from event `after` on. */
  async watch(run: string, after = 0): Promise<void> {
    this.watches.set(run, { after });
    if (this.socket?.readyState === WebSocket.OPEN) await this.rewatch(run);
  }

  /** A run that was submitted with `watch: true` is pushed already; this makes it outlive the connection. */
  adopt(run: string): void {
    if (!this.watches.has(run)) this.watches.set(run, { after: 0 });
  }

  /** Hear of memory and queue whenever they change, also after a loss; no longer without a listener. */
  watchSystem(listener: ((state: Record<string, unknown>) => void) | undefined): void {
    const before = this.system;
    this.system = listener;
    if (this.socket?.readyState === WebSocket.OPEN && !before !== !listener) this.request(listener ? "watch_system" : "unwatch_system").catch(() => undefined);
  }

  private async rewatch(run: string): Promise<void> {
    const watch = this.watches.get(run);
    if (!watch) return;
    try {
      await this.request("watch", { run, after: watch.after });
    } catch (error) {
      if (!(error instanceof ApiError) || error.status === 0 || error.problem.code === "no_server") return;
      this.watches.delete(run);
      this.onGone(run);
    }
  }

  private ping(socket: WebSocket): void {
    setTimeout(() => {
      if (this.socket !== socket) return;
      if (Date.now() - this.heard > PING_MS * 2.5) return socket.close();
      this.request("ping").catch(() => undefined);
      this.ping(socket);
    }, PING_MS);
  }

  private receive(data: ArrayBuffer): void {
    const frame = decode(new Uint8Array(data)) as Record<string, unknown>;
    if (frame["op"] === "events") return this.events(String(frame["run"]), frame["events"] as Event[]);
    if (frame["op"] === "system") return this.system?.(frame["system"] as Record<string, unknown>);
    const request = this.pending.get(frame["id"] as number);
    if (!request) return;
    this.pending.delete(frame["id"] as number);
    if (frame["ok"]) request.resolve(frame["result"]);
    else {
      const error = frame["error"] as Problem & { problems?: Problem[] };
      request.reject(new ApiError(422, error, error.problems ?? [error]));
    }
  }

  private events(run: string, events: Event[]): void {
    const watch = this.watches.get(run) ?? { after: 0 };
    const fresh = events.filter((event) => event.seq > watch.after);
    if (!fresh.length) return;
    const last = fresh[fresh.length - 1]!;
    this.watches.set(run, { after: last.seq });
    if (fresh.some((event) => event.type === "finished")) this.watches.delete(run);
    this.onEvents(run, fresh);
  }
}

/** Whole numbers beyond 32 bits as integers: msgpack's encoder would write them as floats. */
function wide(value: unknown): unknown {
  if (typeof value === "number") return Number.isSafeInteger(value) && Math.abs(value) >= BIG ? BigInt(value) : value;
  if (Array.isArray(value)) return value.map(wide);
  if (typeof value === "object" && value !== null && !(value instanceof Uint8Array)) {
    return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, wide(part)]));
  }
  return value;
}
