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
}
export type Shown = Pick<NodeRun, "preview" | "text" | "outputs">;

export const ENDED: ReadonlySet<string> = new Set(["succeeded", "partial", "failed", "cancelled"]);
const OVER: ReadonlySet<NodeStatus> = new Set(["done", "cached", "skipped", "failed", "blocked", "cancelled"]);
const TEXT_LIMIT = 200_000;

export function newRun(id: string, name: string, nodes = 0, last?: RunState): RunState {
  return { id, name, status: "queued", nodes: {}, total: nodes, errors: [], started: Date.now(), before: last ? shownBy(last) : {} };
}

function shownBy(run: RunState): Record<string, Shown> {
  const found: Record<string, Shown> = { ...run.before };
  for (const [id, { preview, text, outputs }] of Object.entries(run.nodes)) {
    if (preview || text !== undefined || outputs) found[id] = { preview, text, outputs };
  }
  return found;
}

/** What to show of a node that this run did not compute. */
export function shown(run: RunState | undefined, node: string): Shown | undefined {
  const now = run?.nodes[node];
  if (now && (now.preview || now.text !== undefined || now.outputs || now.error)) return now;
  return !now || now.status === "cached" ? run?.before[node] : now;
}

/** The node of the document that an event is about: "map#3" and "map/inner" are parts of "map". */
export function ownerOf(node: string): string {
  return node.split(/[#/]/, 1)[0] ?? node;
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
    for (const id of event["nodes"] as string[]) nodes[ownerOf(id)] ??= { status: "cached" };
    return;
  }
  if (!event.node) return;
  const id = ownerOf(event.node);
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
export function ofRecord(record: Run): RunState {
  const nodes: Record<string, NodeRun> = {};
  for (const [id, outputs] of Object.entries(record.result)) nodes[ownerOf(id)] = { status: "done", outputs };
  for (const error of record.errors) if (error.node) nodes[ownerOf(error.node)] = { status: "failed", error };
  const seconds = record.finished && record.started ? record.finished - record.started : undefined;
  return { id: record.id, name: record.name, status: record.status, nodes, total: record.nodes, errors: record.errors, seconds, started: record.created * 1000, before: {} };
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
