/**
 * ChatBinding: how a workflow is chatted with. Its nodes are found by their types: one `nextgpt.message` with the nodes that
 * load and save the history; or one `nextgpt.conversation` that an `nextgpt.assemble` answers, to which the history is added
 * for the submission alone. Pictures and sounds go to the message, or to the nodes that load such files.
 */

import { links, splitLink, type Doc, type DocNode } from "./document";
import type { Json } from "./json";

export interface ChatBinding {
  /** takes the text */
  message: string;
  /** takes files itself; otherwise load nodes do */
  takesFiles: boolean;
  history: string;
  save: string;
  speaker?: string;
  reply?: string;
  trace?: string;
  /** output nodes whose files belong to the answer */
  media: string[];
}

const MESSAGE = "nextgpt.message";
const LOAD = "nextgpt.load_conversation";
const SAVE = "nextgpt.save_conversation";
const CONVERSATION = "nextgpt.conversation";
const OWN = { history: "chat_history", see: "chat_see", save: "chat_save" };
const LOADERS: Record<string, string> = { image: "media.load_image", audio: "media.load_audio", video: "media.load_video" };

/** Or the type that a chat would need and this workflow has not. */
export function bindChat(doc: Doc): ChatBinding | { missing: string } {
  const nodes = Object.entries(doc.nodes).filter(([, node]) => node.mode !== "muted");
  const only = (type: string): string | undefined => {
    const found = nodes.filter(([, node]) => node.type === type);
    return found.length === 1 ? found[0]![0] : undefined;
  };
  const [message, history, save] = [only(MESSAGE), only(LOAD), only(SAVE)];
  const rest = {
    speaker: nodes.find(([, node]) => node.type === "nextgpt.reason")?.[0],
    reply: shows(doc, nodes, "nextgpt.assemble", "reply_text") ?? shows(doc, nodes, "nextgpt.route", "text"),
    trace: shows(doc, nodes, "nextgpt.route", "trace"),
    media: nodes.filter(([, node]) => /^media\.(save|preview)_(image|audio|video)$/.test(node.type)).map(([id]) => id),
  };
  if (message && history && save) return { message, takesFiles: true, history, save, ...rest };
  const conversation = only(CONVERSATION);
  if (conversation && only("nextgpt.assemble") && !doc.nodes[conversation]!.links?.["previous"]) {
    return { message: conversation, takesFiles: false, history: OWN.history, save: OWN.save, ...rest };
  }
  return { missing: message ? (history ? SAVE : LOAD) : MESSAGE };
}

function shows(_doc: Doc, nodes: [string, DocNode][], type: string, port: string): string | undefined {
  return nodes.find(([, node]) =>
    node.type.startsWith("media.show") &&
    Object.values(node.links ?? {}).some((link) => {
      const [source, output] = splitLink(String(link));
      return _doc.nodes[source]?.type === type && output === port;
    }),
  )?.[0];
}

export interface ChatFile {
  name: string;
  kind: string;
}

/** What is submitted for one turn. Raises Error for a file that nothing in the workflow can take. */
export function turnOf(doc: Doc, binding: ChatBinding, text: string, files: readonly ChatFile[], history: string): Doc {
  const nodes = { ...doc.nodes };
  const put = (id: string, values: Record<string, Json>): void => {
    nodes[id] = { ...nodes[id]!, values: { ...nodes[id]!.values, ...values } };
  };
  put(binding.message, { text });
  if (binding.takesFiles) {
    put(binding.message, { files: files.map((file) => file.name), read_as: files.map(() => "") });
    put(binding.history, { file: history });
    return { ...doc, nodes };
  }
  const used = new Set<string>();
  for (const file of files) {
    const loader = Object.entries(nodes).find(([id, node]) => node.type === LOADERS[file.kind] && !used.has(id))?.[0];
    if (!loader) throw new Error(`${file.name}: ${LOADERS[file.kind] ?? file.kind}`);
    used.add(loader);
    put(loader, { file: file.name });
  }
  nodes[OWN.history] = { type: LOAD, values: { file: history } };
  const [encoder, projector] = [sourceOf(doc, "encoder"), sourceOf(doc, "projector", "nextgpt.project_in")];
  let previous = `${OWN.history}.conversation`;
  if (encoder && projector) {
    nodes[OWN.see] = { type: "nextgpt.encode_conversation", links: { conversation: previous, encoder, projector } };
    previous = `${OWN.see}.conversation`;
  }
  nodes[binding.message] = { ...nodes[binding.message]!, links: { ...nodes[binding.message]!.links, previous } };
  const assemble = Object.entries(nodes).find(([, node]) => node.type === "nextgpt.assemble")![0];
  nodes[OWN.save] = { type: SAVE, values: { name: "chat" }, links: { conversation: `${assemble}.conversation` } };
  return { ...doc, nodes };
}

/** What is linked to the first input of that name. */
function sourceOf(doc: Doc, input: string, type?: string): string | undefined {
  const link = links(doc).find((one) => one.input === input && (!type || doc.nodes[one.target]?.type === type));
  return link && `${link.source}.${link.output}`;
}
