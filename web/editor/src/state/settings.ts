/** Settings of this browser. */

import { Store } from "./store";

export interface Settings {
  theme: "system" | "dark" | "light";
  lang: "en" | "zh";
  snap: boolean;
  grid: boolean;
  minimap: boolean;
  links: "curve" | "straight" | "step";
  hideLinks: boolean;
  runOnChange: boolean;
  tourDone: boolean;
}

const KEY = "anyloom.settings";
const DEFAULTS: Settings = {
  theme: "dark",
  lang: navigator.language?.toLowerCase().startsWith("zh") ? "zh" : "en",
  snap: true,
  grid: true,
  minimap: true,
  links: "curve",
  hideLinks: false,
  runOnChange: false,
  tourDone: false,
};

function read(): Settings {
  try {
    return { ...DEFAULTS, ...(JSON.parse(localStorage.getItem(KEY) ?? "{}") as Partial<Settings>) };
  } catch {
    return DEFAULTS;
  }
}

export const settings = new Store<Settings>(read());

settings.subscribe(() => {
  try {
    localStorage.setItem(KEY, JSON.stringify(settings.get()));
  } catch {
    // a full or forbidden storage: the settings hold until the page is closed
  }
  show();
});

export function show(): void {
  const { theme, lang } = settings.get();
  const light = theme === "light" || (theme === "system" && matchMedia("(prefers-color-scheme: light)").matches);
  document.documentElement.dataset["theme"] = light ? "light" : "dark";
  document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
}
