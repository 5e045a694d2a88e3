/** Server: the connection, and what was learned from the other end: node types, workflows, runs, models. */

import { ApiError, address, get } from "../api/http";
import type { Model, NodeType as ApiNodeType, Run, Workflow } from "../api/schema";
import { Socket, type Link } from "../api/socket";
import { Catalog, type Kind, type NodeType } from "../model/nodetype";
import { named, nodeWords } from "../i18n/nodes";
import { t } from "../i18n/t";
import { hear, lose } from "./runs";
import { screen, toast } from "./screen";
import { settings } from "./settings";
import { Store } from "./store";

export interface Server {
  link: Link;
  catalog: Catalog;
  ready: boolean;
  workflows: Workflow[];
  history: Run[];
  models: Model[];
  presets: Record<string, unknown>[];
  version: string;
}

export const server = new Store<Server>({
  link: "connecting",
  catalog: new Catalog([], {}),
  ready: false,
  workflows: [],
  history: [],
  models: [],
  presets: [],
  version: "",
});

export const socket = new Socket(
  `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${address("/api/v1/ws", {}, { client: "editor" })}`,
  (run, events) => hear(run, events),
  (link) => void linked(link),
  undefined,
  lose,
);

let before: Link | undefined;
let version = "";

async function linked(link: Link): Promise<void> {
  const lost = before === "lost" || before === "connecting";
  server.patch({ link: link === "connecting" && before === "lost" ? "lost" : link });
  if (link === "open" && lost) {
    await refresh();
    if (version && version !== server.get().version) toast(t("server.newer", { version: server.get().version }), "info", { action: { label: t("reload"), run: () => location.reload() } });
    version = server.get().version;
  }
  if (link !== "connecting") before = link;
  else before ??= link;
}

/** Ask everything again. */
export async function refresh(): Promise<void> {
  await Promise.all([learnNodes(), learnWorkflows(), learnRuns(), learnSystem()]);
}

export async function learnNodes(): Promise<void> {
  await guarded(async () => {
    const [{ nodes, failures }, { kinds }] = await Promise.all([
      get<{ nodes: ApiNodeType[]; failures: Record<string, string> }>("/api/v1/nodes"),
      get<{ kinds: (Kind & { name: string })[] }>("/api/v1/kinds"),
    ]);
    told = { nodes: nodes as unknown as NodeType[], kinds: Object.fromEntries(kinds.map((kind) => [kind.name, kind])), failures };
    await nameNodes();
  });
}

let told: { nodes: NodeType[]; kinds: Record<string, Kind>; failures: Record<string, string> } | null = null;
let spoken: "en" | "zh" | null = null;

/** The catalog in the language of the person. */
async function nameNodes(): Promise<void> {
  const lang = (spoken = settings.get().lang);
  const words = await nodeWords(lang);
  if (told && lang === spoken) server.patch({ catalog: new Catalog(named(told.nodes, words), told.kinds, told.failures), ready: true });
}

settings.subscribe(() => {
  if (told && settings.get().lang !== spoken) void guarded(nameNodes);
});

export async function learnWorkflows(): Promise<void> {
  await guarded(async () => server.patch({ workflows: (await get<{ documents: Workflow[] }>("/api/v1/documents")).documents }));
}

export async function learnRuns(): Promise<void> {
  await guarded(async () => server.patch({ history: (await get<{ runs: Run[] }>("/api/v1/runs", {}, { limit: 60 })).runs }));
}

export async function learnModels(): Promise<void> {
  await guarded(async () => {
    const { models, presets } = await get<{ models: Model[]; presets: Record<string, unknown>[] }>("/api/v1/models");
    server.patch({ models, presets });
  });
}

async function learnSystem(): Promise<void> {
  await guarded(async () => server.patch({ version: (await get<{ version: string }>("/api/v1/system")).version }));
}

async function guarded(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    tell(error);
  }
}

/** Say what went wrong. A lost server is said once, by the line at the top. */
export function tell(error: unknown): void {
  if (error instanceof ApiError) {
    if (error.status === 401) screen.patch({ dialog: "token" });
    else if (error.problem.code !== "no_server") toast(error.problem.message, "error", { remedy: error.problem.remedy });
    else server.patch({ link: server.get().link === "open" ? "open" : "lost" });
  } else {
    console.error(error);
    toast(error instanceof Error ? error.message : String(error), "error");
  }
}
