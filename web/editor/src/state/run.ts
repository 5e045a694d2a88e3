/** RunState: what is known of a run, out of its events. One function makes the next state from the one before. */

import type { Event, Problem, Run } from "../api/schema";

export type NodeStatus = "waiting" | "paused" | "running" | "done" | "cached" | "skipped" | "failed" | "blocked" | "cancelled";

export interface NodeRun {
  status: NodeStatus;
  done?: number;
  total?: number;
  message?: string;
  ms?: number;
  text?: string;
  preview?: { media_type: string; image: Uint8Array };
  outputs?: Record<string, unknown>;
  error?: Problem;
  blockedBy?: string;
  /** what has come to a node that waits at a breakpoint */
  arrived?: Record<string, unknown>;
  /** a further part of the node (an item of a list, a node it grew) */
  parts?: number;
}

export interface RunState {
  id: string;
  status: Run["status"];
  name: string;
  nodes: Readonly<Record<string, NodeRun>>;
  total: number;
  errors: Problem[];
  seconds?: number;
  /** of the tab that started it */
  started: number;
  /** what the nodes showed before this run: what is cached, and so not computed again, goes on showing it */
  before: Readonly<Record<string, Shown>>;
  /** instances of subgraphs by their path, each with the nodes in it */
  instances: Instances;
}
export type Instances = ReadonlyMap<string, readonly string[]>;
export type Shown = Pick<NodeRun, "preview" | "text" | "outputs">;

export const ENDED: ReadonlySet<string> = new Set(["succeeded", "partial", "failed", "cancelled"]);
const OVER: ReadonlySet<NodeStatus> = new Set(["done", "cached", "skipped", "failed", "blocked", "cancelled"]);
const TEXT_LIMIT = 200_000;

const NO_INSTANCES: Instances = new Map();

export function newRun(id: string, name: string, nodes = 0, last?: RunState, instances = NO_INSTANCES): RunState {
  return { id, name, status: "queued", nodes: {}, total: nodes, errors: [], started: Date.now(), before: last ? shownBy(last) : {}, instances };
}

function shownBy(run: RunState): Record<string, Shown> {
  const found: Record<string, Shown> = { ...run.before };
  for (const [id, { preview, text, outputs }] of Object.entries(run.nodes)) {
    if (preview || text !== undefined || outputs) found[id] = { preview, text, outputs };
  }
  return found;
}

/** What to show of a node, also of one that this run did not compute; of an instance, what is in it. */
export function shown(run: RunState | undefined, node: string): Shown | undefined {
  const members = run?.instances.get(node);
  if (run && members) return remembered(run, `shown ${node}`, () => together(node, members, (id) => shown(run, id)));
  const now = run?.nodes[node];
  if (now && (now.preview || now.text !== undefined || now.outputs || now.error)) return now;
  return !now || now.status === "cached" ? run?.before[node] : now;
}

/** The state of a node; of an instance of a subgraph, what is known of the nodes in it. */
export function stateOf(run: RunState | undefined, node: string): NodeRun | undefined {
  const members = run?.instances.get(node);
  if (!run || !members) return run?.nodes[node];
  return remembered(run, `state ${node}`, () => roll(run, node, members));
}

/** What was found for one state of a run, so that views are given the same thing twice. */
const memory = new WeakMap<RunState, Map<string, unknown>>();

function remembered<T>(run: RunState, key: string, find: () => T): T {
  let known = memory.get(run);
  if (!known) memory.set(run, (known = new Map()));
  if (!known.has(key)) known.set(key, find());
  return known.get(key) as T;
}

const WORST: readonly NodeStatus[] = ["failed", "paused", "running", "blocked", "cancelled"];

function roll(run: RunState, instance: string, members: readonly string[]): NodeRun | undefined {
  const known = members.flatMap((id) => run.nodes[id] ?? []);
  if (!known.length) return undefined;
  const over = known.filter((node) => OVER.has(node.status)).length;
  const settled = over === members.length || ENDED.has(run.status);
  const alike = known.every((node) => node.status === known[0]!.status) ? known[0]!.status : "done";
  const status = WORST.find((word) => known.some((node) => node.status === word)) ?? (settled ? alike : "running");
  const working = known.filter((node) => node.status === "running");
  const counting = working.find((node) => node.total);
  const failed = members.find((id) => run.nodes[id]?.error);
  const { error } = (failed && run.nodes[failed]) || {};
  return {
    status, ...together(instance, members, (id) => run.nodes[id]),
    ...(status === "running" ? { done: counting?.done ?? over, total: counting?.total ?? members.length } : {}),
    message: (working[0] ?? known[known.length - 1]!).message,
    ms: known.some((node) => node.ms !== undefined) ? known.reduce((sum, node) => sum + (node.ms ?? 0), 0) : undefined,
    ...(error && failed ? { error: { ...error, message: `${failed.slice(instance.length + 1)}: ${error.message}` } } : {}),
    blockedBy: known.find((node) => node.blockedBy)?.blockedBy,
  };
}

/** The outputs of all of them, and the preview and words of the one that has said something last. */
function together(instance: string, members: readonly string[], of: (id: string) => (Shown & { status?: NodeStatus }) | undefined): Shown {
  const found: Shown = {};
  const made = members.filter((id) => of(id)?.outputs);
  const inOrder = [...members].sort((a, b) => Number(of(a)?.status === "running") - Number(of(b)?.status === "running"));
  for (const id of inOrder) {
    const one = of(id);
    if (one?.preview) found.preview = one.preview;
    if (one?.text !== undefined) found.text = one.text;
    for (const [port, value] of Object.entries(one?.outputs ?? {})) (found.outputs ??= {})[made.length > 1 ? `${id.slice(instance.length + 1)}.${port}` : port] = value;
  }
  return found;
}

/** The node of the document that an event is about: "map#3" and "map/inner" are parts of "map". Nodes in an instance are
their own: "outer/blur", unless "outer" is a node that grew it. */
export function ownerOf(node: string, instances: Instances = NO_INSTANCES): string {
  const whole = node.split("#", 1)[0]!;
  let end = whole.indexOf("/");
  while (end > 0 && instances.has(whole.slice(0, end))) end = whole.indexOf("/", end + 1);
  return end < 0 ? whole : whole.slice(0, end);
}

export function apply(state: RunState, events: readonly Event[]): RunState {
  const nodes: Record<string, NodeRun> = { ...state.nodes };
  const next: RunState = { ...state, nodes };
  for (const event of events) step(next, nodes, event);
  return next;
}

function step(run: RunState, nodes: Record<string, NodeRun>, event: Event): void {
  if (event.type === "started") {
    run.status = "running";
    run.total = Number(event["nodes"] ?? run.total);
    return;
  }
  if (event.type === "finished") {
    run.status = event["status"] as RunState["status"];
    run.seconds = event["seconds"] as number | undefined;
    run.errors = (event["errors"] as Problem[] | undefined) ?? run.errors;
    for (const [id, node] of Object.entries(nodes)) {
      if (!OVER.has(node.status)) nodes[id] = { ...node, status: run.status === "succeeded" ? "done" : "cancelled" };
    }
    return;
  }
  if (event.type === "cached") {
    for (const id of event["nodes"] as string[]) nodes[ownerOf(id, run.instances)] ??= { status: "cached" };
    return;
  }
  if (!event.node) return;
  const id = ownerOf(event.node, run.instances);
  const part = id !== event.node;
  const node = nodes[id] ?? { status: "waiting" as const };
  const change = changeOf(node, event, part);
  if (change) nodes[id] = { ...node, ...change };
  if (event.type === "failed") run.errors = [...run.errors, { ...(event["error"] as Problem), node: id }];
}

function changeOf(node: NodeRun, event: Event, part: boolean): Partial<NodeRun> | undefined {
  switch (event.type) {
    case "paused":
      return { status: "paused", arrived: event["inputs"] as Record<string, unknown> | undefined };
    case "running":
      return node.status === "failed" ? undefined : { status: "running" };
    case "progress":
      return { done: event["done"] as number, total: event["total"] as number, message: event["message"] as string | undefined };
    case "preview":
      return { preview: { media_type: String(event["media_type"]), image: event["image"] as Uint8Array } };
    case "chunk":
      return { text: ((node.text ?? "") + String(event["text"])).slice(-TEXT_LIMIT) };
    case "log":
      return { message: String(event["message"]) };
    case "done":
      if (part) return { ms: (node.ms ?? 0) + ((event["ms"] as number | undefined) ?? 0), parts: (node.parts ?? 0) + 1 };
      return { status: "done", ms: (event["ms"] as number | undefined) ?? node.ms };
    case "skipped":
      return part ? undefined : { status: "skipped", message: event["message"] as string | undefined };
    case "retrying":
      return { message: (event["error"] as Problem | undefined)?.message };
    case "failed":
      return { status: "failed", error: event["error"] as Problem };
    case "blocked":
      return { status: "blocked", blockedBy: event["by"] as string | undefined };
    case "cancelled":
      return { status: "cancelled" };
    case "output":
      return { outputs: event["outputs"] as Record<string, unknown>, ...(node.status === "waiting" ? { status: "cached" as const } : {}) };
    default:
      return undefined;
  }
}

/** How far it is, 0..1: whole nodes, and of running ones what they say. */
export function fraction(run: RunState): number {
  if (ENDED.has(run.status)) return 1;
  let sum = 0;
  for (const node of Object.values(run.nodes)) {
    if (OVER.has(node.status)) sum += 1;
    else if (node.total) sum += Math.min(1, (node.done ?? 0) / node.total);
  }
  return run.total ? Math.min(1, sum / run.total) : 0;
}

/** The state that a run of the past had, out of its record. */
export function ofRecord(record: Run, instances = NO_INSTANCES): RunState {
  const nodes: Record<string, NodeRun> = {};
  for (const [id, outputs] of Object.entries(record.result)) nodes[ownerOf(id, instances)] = { status: "done", outputs };
  for (const error of record.errors) if (error.node) nodes[ownerOf(error.node, instances)] = { status: "failed", error };
  const seconds = record.finished && record.started ? record.finished - record.started : undefined;
  return { id: record.id, name: record.name, status: record.status, nodes, total: record.nodes, errors: record.errors, seconds, started: record.created * 1000, before: {}, instances };
}

export interface FileRef {
  folder: string;
  name: string;
  media_type: string;
  bytes: number;
  width?: number;
  height?: number;
  /** of a film */
  fps?: number;
  /** where it lies, if it is no file but a value of a run */
  url?: string;
}

/** Every written file among outputs, lists included. */
export function filesOf(outputs: Record<string, unknown> | undefined): FileRef[] {
  const found: FileRef[] = [];
  const look = (value: unknown): void => {
    if (Array.isArray(value)) value.forEach(look);
    else if (typeof value === "object" && value !== null && "file" in value) found.push((value as { file: FileRef }).file);
  };
  Object.values(outputs ?? {}).forEach(look);
  return found;
}
