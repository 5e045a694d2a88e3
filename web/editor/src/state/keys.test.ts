import { expect, it } from "vitest";

import { keysOf } from "./keys";

const press = (key: string, code: string, held = ""): string =>
  keysOf({ key, code, ctrlKey: held.includes("C"), metaKey: false, altKey: held.includes("A"), shiftKey: held.includes("S") });

it.each([
  ["z", "KeyZ", "C", "Ctrl+Z"],
  ["Z", "KeyZ", "CS", "Ctrl+Y"],
  ["z", "KeyW", "C", "Ctrl+Z"], // AZERTY: what is written on it
  ["\u044f", "KeyZ", "C", "Ctrl+Z"], // Russian
  ["\u03c9", "KeyV", "C", "Ctrl+V"], // Greek
  ["\u05e7", "KeyE", "", "E"], // Hebrew
  ["\u00e4", "Quote", "", "\u00c4"],
  ["\u222b", "KeyB", "A", "Alt+B"], // a Mac with Option held
  ["?", "Slash", "S", "?"],
  ["Enter", "Enter", "CA", "Ctrl+Alt+Enter"],
  ["Escape", "Escape", "", "Alt+ArrowUp"],
])("%s on %s with %s is %s", (key, code, held, keys) => expect(press(key, code, held)).toBe(keys));
