// Written by `python -m docs.editor_types` from the OpenAPI document. Do not edit.

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
  error?: string;
};

export type Submission = {
  document?: Document;
  workflow?: string;
  values?: Record<string, unknown>;
  targets?: string[] | null;
  priority?: number;
  name?: string;
  [more: string]: unknown;
};

export type Port = {
  name: string;
  kind: string;
  [more: string]: unknown;
};

export type Kind = {
  color: string;
  description: string;
  literal: boolean;
  accepts: string[];
};

export type NodeType = {
  id: string;
  version: string;
  category: string;
  title: string;
  description: string;
  inputs: Port[];
  more: Port | null;
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
  "/api/v1/models": "get";
  "/api/v1/nodes": "get";
  "/api/v1/nodes/{id}": "get";
  "/api/v1/openapi.json": "get";
  "/api/v1/runs": "get" | "post";
  "/api/v1/runs/{id}": "delete" | "get";
  "/api/v1/runs/{id}/cancel": "post";
  "/api/v1/runs/{id}/document": "get";
  "/api/v1/runs/{id}/events": "get";
  "/api/v1/system": "get";
  "/api/v1/ws": "get";
}
