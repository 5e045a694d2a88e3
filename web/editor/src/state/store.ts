/** Store: a value that views can read and follow. Each part of the editor's state is one of these. */

import { useCallback, useRef, useSyncExternalStore } from "react";

export class Store<T> {
  private readonly listeners = new Set<() => void>();

  constructor(private value: T) {}

  get = (): T => this.value;

  set(next: T | ((before: T) => T)): void {
    const value = typeof next === "function" ? (next as (before: T) => T)(this.value) : next;
    if (Object.is(value, this.value)) return;
    this.value = value;
    for (const listener of [...this.listeners]) listener();
  }

  patch(part: Partial<T>): void {
    this.set({ ...this.value, ...part });
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };
}

/** What `pick` takes from the store; the view is drawn again only when that changes. */
export function useStore<T, S = T>(store: Store<T>, pick: (value: T) => S = (value) => value as unknown as S): S {
  const latest = useRef(pick);
  latest.current = pick;
  const read = useCallback(() => latest.current(store.get()), [store]);
  return useSyncExternalStore(store.subscribe, read);
}
