// Written by `python -m docs.editor_types` from the OpenAPI document. Do not edit.

export type Input = {
  name: string;
  kind: string;
  required: boolean;
  default?: unknown;
  description?: string;
  as_list?: boolean;
  lazy?: boolean;
  match?: string;
  widget?: Widget;
};

export type Widget = {
  type: "number" | "slider" | "seed" | "boolean" | "combo" | "text" | "multiline" | "color" | "file" | "json" | "any";
  integer?: boolean;
  min?: number;
  max?: number;
  step?: number;
  options?: string[];
  multiline?: boolean;
  upload?: string;
  control?: string;
  suggest?: string;
  style?: string;
  label?: string;
  placeholder?: string;
};

export type Queue = {
  held: boolean;
  runs: {
    done: number;
    working: string[];
    [more: string]: unknown;
  }[];
};

export type Past = {
  id: string;
  number: number;
  name: string;
  client: string;
  status: string;
  created: number;
  started: number | null;
  finished: number | null;
  nodes: number;
  errors: number;
  media: {
    node: string;
    folder: string;
    name: string;
    media_type: string;
  }[];
  more_media: number;
};

export type Explanation = {
  run: string;
  compared_with: {
    run: string;
    number: number;
    name: string;
  } | null;
  nodes: {
    node: string;
    type: string;
    outcome: string;
    cached: boolean;
    why: {
      what: "new" | "type" | "version" | "literal" | "link" | "upstream" | "file" | "first" | "effect" | "upstream_effect" | "unfinished" | "gone";
      input?: string;
      node?: string;
      old?: unknown;
      new?: unknown;
    }[];
  }[];
};

export type Timeline = {
  traceEvents: {
    name: string;
    ph: string;
    pid: number;
    tid: number;
    [more: string]: unknown;
  }[];
  displayTimeUnit: string;
  otherData: {
    run: string;
    name: string;
    number: number;
    status: string;
    began: number;
    left_out: number;
  };
};

export type Question = {
  document?: Document;
  workflow?: string;
  values?: Record<string, unknown>;
  targets?: string[] | null;
  device?: string;
  budget_bytes?: number;
  priority?: unknown;
  name?: unknown;
  pins?: unknown;
  breakpoints?: unknown;
};

export type Outlook = {
  summary: string;
  fits: "whole" | "streamed" | "no";
  problem: string;
  device: string;
  budget_bytes: number;
  bandwidth: number;
  bandwidth_observed: boolean;
  models: {
    node: string;
    model: string;
    weight_bytes: number;
    kept_bytes: number;
    streamed_bytes: number;
    passes: number;
    copied_bytes: number;
    here: boolean;
  }[];
  moving: number;
  copied_bytes: number;
  working_bytes: number;
  weights_here: boolean;
  steps: number;
  cached: number;
  copy_s: number;
  compute_s: number;
  expected_s: number;
  unknown: string[];
};

export type ModelInMemory = {
  key: string;
  family: string;
  state: "resident" | "streaming" | "loading";
  bytes: number;
  weight_bytes: number;
  beside_bytes: number;
  share: number;
  leases: number;
  next_use: number | null;
};

export type DeviceMemory = {
  device: string;
  total_bytes: number;
  free_bytes: number;
  budget_bytes: number;
  used_bytes: number;
  reserved_bytes: number;
  models: ModelInMemory[];
  transfers: {
    model: string;
    what: "load" | "copy";
    bytes: number;
    since_s: number;
  }[];
  loads: number;
  evictions: number;
  copied_bytes: number;
};

export type Memory = {
  time: number;
  devices: DeviceMemory[];
  waiting: {
    run: string;
    node: string;
    device: string;
    since_s: number;
  }[];
  process_bytes: number;
};

export type Problem = {
  code: string;
  message: string;
  remedy?: string;
  node?: string;
  port?: string;
  place?: string;
};

export type Error = {
  error: {
    code: string;
    message: string;
    remedy?: string;
    node?: string;
    port?: string;
    place?: string;
    problems?: Problem[];
  };
};

export type Run = {
  id: string;
  status: "queued" | "running" | "succeeded" | "partial" | "failed" | "cancelled";
  number: number;
  name: string;
  client: string;
  priority: number;
  created: number;
  started: number | null;
  finished: number | null;
  nodes: number;
  result: Record<string, Record<string, unknown>>;
  errors: Problem[];
  paused: string[];
};

export type Event = {
  seq: number;
  type: string;
  node?: string;
  [more: string]: unknown;
};

export type Document = {
  format: "anyloom";
  version: number;
  title?: string;
  description?: string;
  nodes: Record<string, Record<string, unknown>>;
  asks?: (Record<string, unknown>)[];
  targets?: string[];
  subgraphs?: Record<string, Subgraph>;
  publishes?: string;
  [more: string]: unknown;
};

export type ExposedPort = {
  name: string;
  kind: string;
  default?: unknown;
  link?: string;
  label?: string;
  [more: string]: unknown;
};

export type Subgraph = {
  title?: string;
  description?: string;
  category?: string;
  inputs?: ExposedPort[];
  outputs?: ExposedPort[];
  nodes: Record<string, Record<string, unknown>>;
  [more: string]: unknown;
};

export type Workflow = {
  name: string;
  writable: boolean;
  title: string;
  description: string;
  nodes: number;
  asks: {
    node: string;
    input: string;
    label: string;
    description: string;
    type: string;
    value: unknown;
  }[];
  modified?: number;
  thumbnail?: {
    folder: string;
    name: string;
  };
  publishes?: {
    name: string;
    title: string;
    description: string;
    category: string;
    inputs: ExposedPort[];
    outputs: ExposedPort[];
  };
  error?: string;
};

export type Submission = {
  document?: Document;
  workflow?: string;
  values?: Record<string, unknown>;
  targets?: string[] | null;
  priority?: number;
  name?: string;
  pins?: Record<string, string>;
  breakpoints?: string[];
};

export type Sweep = {
  document?: Document;
  workflow?: string;
  values?: Record<string, unknown>;
  targets?: string[] | null;
  priority?: number;
  name?: string;
  pins?: Record<string, string>;
  breakpoints?: string[];
  axes: {
    input: string;
    values: unknown[];
  }[];
};

export type Tally = {
  runs: number;
  steps: number;
  shared: number;
  cached: number;
};

export type Port = {
  name: string;
  kind: string;
  [more: string]: unknown;
};

export type NodeType = {
  id: string;
  version: string;
  category: string;
  title: string;
  description: string;
  inputs: Input[];
  more: Input | null;
  outputs: Port[];
  effect: "pure" | "seeded" | "external";
  output: boolean;
  lane: string;
  [more: string]: unknown;
};

export type File = {
  folder: "input" | "output" | "temp";
  name: string;
  media_type: string;
  bytes: number;
  modified?: number;
  existing?: boolean;
};

export type Model = {
  name: string;
  bytes: number;
  loadable: boolean;
};

export interface Paths {
  "/api/v1/artifacts/{key}/{port}": "get";
  "/api/v1/documents": "get";
  "/api/v1/documents/validate": "post";
  "/api/v1/documents/{name}": "delete" | "get" | "put";
  "/api/v1/embedded/{folder}/{name}": "get";
  "/api/v1/files": "post";
  "/api/v1/files/{folder}": "get";
  "/api/v1/files/{folder}/{name}": "get";
  "/api/v1/history": "delete" | "get";
  "/api/v1/history/{id}": "delete";
  "/api/v1/kinds": "get";
  "/api/v1/memory": "get";
  "/api/v1/models": "get";
  "/api/v1/nodes": "get";
  "/api/v1/nodes/{id}": "get";
  "/api/v1/openapi.json": "get";
  "/api/v1/parcels": "post";
  "/api/v1/parcels/open": "post";
  "/api/v1/plan": "post";
  "/api/v1/playable/{folder}/{name}": "get";
  "/api/v1/queue": "get";
  "/api/v1/queue/cancel": "post";
  "/api/v1/queue/hold": "post";
  "/api/v1/queue/release": "post";
  "/api/v1/runs": "get" | "post";
  "/api/v1/runs/{id}": "delete" | "get";
  "/api/v1/runs/{id}/cancel": "post";
  "/api/v1/runs/{id}/continue": "post";
  "/api/v1/runs/{id}/document": "get";
  "/api/v1/runs/{id}/events": "get";
  "/api/v1/runs/{id}/explain": "get";
  "/api/v1/runs/{id}/priority": "post";
  "/api/v1/runs/{id}/timeline": "get";
  "/api/v1/sweeps": "post";
  "/api/v1/sweeps/plan": "post";
  "/api/v1/system": "get";
  "/api/v1/thumbnails/{folder}/{name}": "get";
  "/api/v1/versions/{name}": "get" | "post";
  "/api/v1/ws": "get";
}
