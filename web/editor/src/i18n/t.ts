/** t: the words of the editor in the language that was chosen. */

import { settings } from "../state/settings";
import { useStore } from "../state/store";
import { en, type Words } from "./en";
import { zh } from "./zh";

const TABLES: Record<"en" | "zh", Words> = { en, zh };
export type Word = keyof Words;

export function t(word: Word, values: Record<string, string | number> = {}): string {
  const text = TABLES[settings.get().lang][word];
  return text.replace(/\{(\w+)\}/g, (all, name: string) => (name in values ? String(values[name]) : all));
}

/** The same for views: they are drawn again when the language changes. */
export function useT(): typeof t {
  useStore(settings, (now) => now.lang);
  return t;
}
