/** http: the routes under /api/v1. Answers are JSON; what goes wrong is an ApiError with the server's own words. */

import { dumpJson, isObject, parseJson } from "../model/json";
import type { Paths, Problem } from "./schema";

export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly problem: Problem,
    readonly problems: Problem[] = [],
  ) {
    super(problem.message);
  }
}

type Path = keyof Paths & string;
const BASE = "";

/** The address of a path of the API, its parameters filled in. */
export function address(path: Path, names: Record<string, string> = {}, query: Record<string, string | number | undefined> = {}): string {
  const filled = path.replace(/\{(\w+)\}/g, (_all, name: string) => (names[name] ?? "").split("/").map(encodeURIComponent).join("/"));
  const wanted = Object.entries(query).filter((entry): entry is [string, string | number] => entry[1] !== undefined);
  return BASE + filled + (wanted.length ? `?${new URLSearchParams(wanted.map(([key, value]) => [key, String(value)]))}` : "");
}

export async function get<T>(path: Path, names?: Record<string, string>, query?: Record<string, string | number | undefined>): Promise<T> {
  return ask<T>(address(path, names, query), {});
}

export async function send<T>(method: "POST" | "PUT" | "DELETE", path: Path, names?: Record<string, string>, body?: unknown): Promise<T> {
  return (await exchange<T>(method, path, names, body)).value;
}

/** With conditions on what is there (If-Match, If-None-Match), and what identifies the content of the answer. */
export async function exchange<T>(method: "GET" | "POST" | "PUT" | "DELETE", path: Path, names?: Record<string, string>, body?: unknown, headers: Record<string, string> = {}): Promise<{ value: T; etag: string }> {
  const init: RequestInit = { method, headers: { ...headers, ...(body === undefined ? {} : { "Content-Type": "application/json" }) } };
  if (body !== undefined) init.body = dumpJson(body);
  const answer = await reach(address(path, names), init);
  return { value: await valueOf<T>(answer), etag: answer.headers.get("ETag") ?? "" };
}

export async function upload<T>(files: readonly File[]): Promise<T> {
  const form = new FormData();
  for (const file of files) form.append("file", file, file.name);
  return ask<T>(address("/api/v1/files"), { method: "POST", body: form });
}

/** A file as the body of a request. */
export async function sendFile<T>(path: Path, file: Blob, type: string): Promise<T> {
  return ask<T>(address(path), { method: "POST", body: file, headers: { "Content-Type": type } });
}

/** An answer that is a file. */
export async function fetchFile(path: Path, body: unknown): Promise<Blob> {
  const answer = await reach(address(path), { method: "POST", body: dumpJson(body), headers: { "Content-Type": "application/json" } });
  if (answer.ok) return answer.blob();
  throw toError(answer.status, await answer.json().catch(() => undefined));
}

async function ask<T>(url: string, init: RequestInit): Promise<T> {
  return valueOf<T>(await reach(url, init));
}

/** Raises ApiError with what the server says. */
async function valueOf<T>(answer: Response): Promise<T> {
  const text = await answer.text();
  let value: unknown;
  try {
    value = parseJson(text);
  } catch {
    value = undefined;
  }
  if (answer.ok && value !== undefined) return value as T;
  throw toError(answer.status, value);
}

async function reach(url: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, { ...init, credentials: "same-origin" });
  } catch {
    throw new ApiError(0, { code: "no_server", message: "The server does not answer.", remedy: "Is it running? It is asked again by itself." });
  }
}

export function toError(status: number, value: unknown): ApiError {
  const error = isObject(value) ? value["error"] : undefined;
  if (isObject(error)) {
    const problem = error as unknown as Problem & { problems?: Problem[] };
    return new ApiError(status, problem, problem.problems ?? [problem]);
  }
  return new ApiError(status, { code: "bad_answer", message: `The server answered ${status} without saying why.` });
}
