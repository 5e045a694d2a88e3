/** Live: memory and queue of the server, pushed while somebody looks at them. */

import { useEffect } from "react";

import type { Memory } from "../api/schema";
import { socket } from "./server";
import { Store, useStore } from "./store";

export interface Live extends Memory {
  runs: { active: number; held: boolean; newest: number; paused: number };
}

export const live = new Store<Live | null>(null);
let looking = 0;

/** What was pushed last; null until something was. The server is told to push while a view that uses this is there. */
export function useLive<S>(pick: (now: Live | null) => S): S {
  useEffect(() => {
    if (++looking === 1) socket.watchSystem((state) => live.set(state as unknown as Live));
    return () => {
      if (--looking === 0) socket.watchSystem(undefined);
    };
  }, []);
  return useStore(live, pick);
}

/** Changes when the list of runs may have: one came, ended, paused, or the queue is held. */
export function queueOf(now: Live | null): string {
  return now ? Object.values(now.runs).join(" ") : "";
}
