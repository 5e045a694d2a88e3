/** Keys: what was pressed, as people read it: "Ctrl+Shift+Enter". */

const SAME: Record<string, string> = { Escape: "Alt+ArrowUp", "Ctrl+Shift+Z": "Ctrl+Y", Backspace: "Delete", "Shift+?": "?", "Ctrl+Shift+Y": "Ctrl+Y" };

type Pressed = Pick<KeyboardEvent, "key" | "code" | "ctrlKey" | "metaKey" | "altKey" | "shiftKey">;

export function keysOf(event: Pressed): string {
  const keys = `${event.ctrlKey || event.metaKey ? "Ctrl+" : ""}${event.altKey ? "Alt+" : ""}${event.shiftKey ? "Shift+" : ""}${nameOf(event)}`;
  return SAME[keys] ?? keys;
}

/** By what is written on the key; by its place where Alt writes something else, or where no Latin letter is on it. */
function nameOf({ key, code, altKey }: Pressed): string {
  if (altKey && /^(Key|Digit|Equal|Minus)/.test(code)) return code.replace(/^(Key|Digit)/, "").replace("Equal", "=").replace("Minus", "-");
  if (key.length !== 1) return key;
  return key > "\u007f" && /^Key[A-Z]$/.test(code) ? code.slice(3) : key.toUpperCase();
}

/** Keys while words are being composed, as in Chinese and Japanese, belong to the input method: Enter chooses a word there. */
export function composing(event: { nativeEvent: Event }): boolean {
  const native = event.nativeEvent as KeyboardEvent;
  return native.isComposing || native.keyCode === 229;
}
