/** nodes: what the nodes that come with Anyloom are called in Chinese. Those of other packs keep the names they have. */

import type { Input, NodeType, Output } from "../model/nodetype";

export interface NodeWords {
  titles: Record<string, string>;
  /** of ports, by name, or by "node type.name" where a name means something else there */
  ports: Record<string, string>;
  categories: Record<string, string>;
  /** of lists, by option, or by "port.option" where it means something else there; names of formats and methods stay */
  options: Record<string, string>;
}

/** A part of its own, which is loaded by those who read it. */
export async function nodeWords(lang: "en" | "zh"): Promise<NodeWords | null> {
  return lang === "zh" ? (await import("./nodes.zh.json")).default : null;
}

/** The types with these names. What they are called in English stays findable (`also`); categories stay, which hues are made from. */
export function named(types: readonly NodeType[], words: NodeWords | null): NodeType[] {
  if (!words) return [...types];
  return types.map((type) => {
    const title = words.titles[type.id];
    if (title === undefined) return type;
    const label = <P extends Input | Output>(port: P): P => ({
      ...port, label: words.ports[`${type.id}.${port.name}`] ?? words.ports[port.name],
      ...("widget" in port && port.widget?.options ? { widget: { ...port.widget, said: sayings(port.name, port.widget.options, words) } } : {}),
    });
    return {
      ...type, title, also: type.title, group: words.categories[type.category],
      inputs: type.inputs.map(label), more: type.more && label(type.more), outputs: type.outputs.map(label),
    };
  });
}

function sayings(port: string, options: readonly string[], words: NodeWords): Record<string, string> {
  return Object.fromEntries(options.flatMap((option) => {
    const said = words.options[`${port}.${option}`] ?? words.options[option];
    return said === undefined ? [] : [[option, said]];
  }));
}
