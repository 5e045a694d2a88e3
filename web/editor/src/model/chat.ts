/** ChatBinding: which nodes of a workflow take a message and the history, and which answer. Found by their types. */

import { splitLink, type Doc } from "./document";
import type { Json } from "./json";

export interface ChatBinding {
  message: string;
  history: string;
  save: string;
  speaker?: string;
  reply?: string;
  trace?: string;
  /** output nodes whose files belong to the answer */
  media: string[];
}

const ROLES = { message: "nextgpt.message", history: "nextgpt.load_conversation", save: "nextgpt.save_conversation" };

/** Undefined, with the missing type, for a workflow that cannot be chatted with. */
export function bindChat(doc: Doc): ChatBinding | { missing: string } {
  const ids = Object.entries(doc.nodes);
  const found: Record<string, string> = {};
  for (const [role, type] of Object.entries(ROLES)) {
    const nodes = ids.filter(([, node]) => node.type === type && node.mode !== "muted");
    if (nodes.length !== 1) return { missing: type };
    found[role] = nodes[0]![0];
  }
  const shown = (type: string, port: string): string | undefined =>
    ids.find(([, node]) =>
      node.type.startsWith("media.show") &&
      Object.values(node.links ?? {}).some((link) => {
        const [source, output] = splitLink(String(link));
        return doc.nodes[source]?.type === type && output === port;
      }),
    )?.[0];
  return {
    message: found["message"]!,
    history: found["history"]!,
    save: found["save"]!,
    speaker: ids.find(([, node]) => node.type === "nextgpt.reason")?.[0],
    reply: shown("nextgpt.assemble", "reply_text") ?? shown("nextgpt.route", "text"),
    trace: shown("nextgpt.route", "trace"),
    media: ids.filter(([, node]) => /^media\.(save|preview)_(image|audio|video)$/.test(node.type)).map(([id]) => id),
  };
}

export function chatValues(binding: ChatBinding, text: string, files: string[], readAs: string[], history: string): Record<string, Json> {
  return {
    [`${binding.message}.text`]: text,
    [`${binding.message}.files`]: files,
    [`${binding.message}.read_as`]: readAs,
    [`${binding.history}.file`]: history,
  };
}
