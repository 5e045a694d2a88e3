/** Chat: turns that a workflow answers. The history of a chat is the file that its last turn saved. */

import { t } from "../i18n/t";
import { bindChat, turnOf, type ChatBinding } from "../model/chat";
import type { Doc } from "../model/document";
import { isObject } from "../model/json";
import { revive, run } from "./running";
import { ENDED, filesOf, type FileRef, type RunState } from "./run";
import { onEnd, runs } from "./runs";
import { toast } from "./screen";
import { Store } from "./store";
import { activeOf, workspace } from "./workspace";

export interface Turn {
  text: string;
  files: string[];
  run: string;
  binding: ChatBinding;
}
export interface Talk {
  turns: readonly Turn[];
  /** the file that the last turn saved */
  history: string;
}

/** by tab */
export const talks = new Store<Readonly<Record<string, Talk>>>({});
const NEW: Talk = { turns: [], history: "" };

export function talkOf(tab: string): Talk {
  return talks.get()[tab] ?? NEW;
}

/** A talk that was kept as JSON; undefined for what is none. */
export function readTalk(value: unknown): Talk | undefined {
  if (!isObject(value) || typeof value["history"] !== "string" || !Array.isArray(value["turns"])) return undefined;
  const isTurn = (turn: unknown): turn is Turn =>
    isObject(turn) && typeof turn["text"] === "string" && typeof turn["run"] === "string" && isTexts(turn["files"]) && isObject(turn["binding"]) && isTexts(turn["binding"]["media"]);
  return value["turns"].every(isTurn) ? { turns: value["turns"], history: value["history"] } : undefined;
}

function isTexts(list: unknown): boolean {
  return Array.isArray(list) && list.every((one) => typeof one === "string");
}

export async function say(text: string, files: string[]): Promise<boolean> {
  const tab = activeOf(workspace.get());
  const binding = bindChat(tab.history.present);
  if ("missing" in binding) {
    toast(t("chat.unbound", { type: binding.missing }), "error");
    return false;
  }
  const talk = talkOf(tab.id);
  const last = talk.turns[talk.turns.length - 1];
  if (last && !ENDED.has(runs.get()[last.run]?.status ?? "succeeded")) return false;
  let document: Doc;
  try {
    document = turnOf(tab.history.present, binding, text, files.map((name) => ({ name, kind: kindByName(name) })), talk.history);
  } catch (error) {
    toast(t("chat.file", { name: (error as Error).message }), "error");
    return false;
  }
  const id = await run({ document });
  if (!id) return false;
  talks.set((now) => ({ ...now, [tab.id]: { ...talkOf(tab.id), turns: [...talkOf(tab.id).turns, { text, files, run: id, binding }] } }));
  return true;
}

const SUFFIXES: Record<string, string> = { png: "image", jpg: "image", jpeg: "image", webp: "image", gif: "image", bmp: "image", wav: "audio", mp3: "audio", flac: "audio", ogg: "audio", opus: "audio", m4a: "audio", aac: "audio", weba: "audio", mp4: "video", webm: "video", mov: "video", mkv: "video" };

function kindByName(name: string): string {
  return SUFFIXES[name.split(".").pop()?.toLowerCase() ?? ""] ?? "other";
}

export function startAnew(tab: string): void {
  talks.set((now) => ({ ...now, [tab]: NEW }));
}

onEnd((state) => {
  for (const [tab, talk] of Object.entries(talks.get())) {
    const turn = talk.turns.find((one) => one.run === state.id);
    const saved = turn && filesOf(state.nodes[turn.binding.save]?.outputs)[0];
    if (saved) talks.set((now) => ({ ...now, [tab]: { ...talk, history: `${saved.folder}/${saved.name}` } }));
  }
});

/** After a reload: what was answered. */
export async function reviveTalks(): Promise<void> {
  for (const tab of workspace.get().tabs) await revive(talkOf(tab.id).turns.map((turn) => turn.run), tab.history.present);
}

export interface Reply {
  text: string;
  media: FileRef[];
  trace: string;
  live: boolean;
  error?: string;
}

/** What a turn was answered, as far as it is known: words as they are said, then the assembled text, media as they come. */
export function replyOf(turn: Turn, state: RunState | undefined): Reply {
  const node = (id: string | undefined) => (id ? state?.nodes[id] : undefined);
  const first = (id: string | undefined): string | undefined => Object.values(node(id)?.outputs ?? {}).find((value): value is string => typeof value === "string");
  const live = !state || !ENDED.has(state.status);
  const spoken = node(turn.binding.speaker)?.text ?? "";
  const error = state?.errors[0];
  return {
    text: first(turn.binding.reply) ?? spoken,
    media: turn.binding.media.flatMap((id) => filesOf(node(id)?.outputs)),
    trace: first(turn.binding.trace) ?? "",
    live,
    error: error && `${error.node ? `${error.node}: ` : ""}${error.message} ${error.remedy ?? ""}`,
  };
}
