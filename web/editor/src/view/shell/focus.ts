/** useFocusTrap: the keyboard stays in an open dialog, and goes back to where it was when the dialog closes. */

import { useEffect, type RefObject } from "react";

const STOPS = 'button:not([disabled]), [href], input:not([hidden]), select, textarea, [tabindex]:not([tabindex="-1"])';

export function useFocusTrap(box: RefObject<HTMLElement | null>): void {
  useEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    const element = box.current;
    if (!element) return;
    const stops = (): HTMLElement[] => [...element.querySelectorAll<HTMLElement>(STOPS)].filter((one) => one.offsetParent !== null);
    if (!element.contains(document.activeElement)) (element.querySelector<HTMLElement>("[autofocus]") ?? stops()[0])?.focus();
    const turn = (event: KeyboardEvent): void => {
      if (event.key !== "Tab") return;
      const list = stops();
      const [first, last] = [list[0], list[list.length - 1]];
      if (event.shiftKey && document.activeElement === first) last?.focus();
      else if (!event.shiftKey && document.activeElement === last) first?.focus();
      else return;
      event.preventDefault();
    };
    element.addEventListener("keydown", turn);
    return () => {
      element.removeEventListener("keydown", turn);
      before?.focus?.();
    };
  }, [box]);
}
