/** Auto: running on change. What follows from a run, as the next seed does, is no change; nor is where things are drawn. */

import { matters } from "../model/changes";
import type { Tab } from "./workspace";

const WAIT_MS = 700;

export class Auto {
  private seen: Pick<Tab, "id" | "history"> | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private due = false;
  private on = false;

  constructor(private readonly engine: { busy: () => boolean; run: () => void }) {}

  /** The active tab is like this now. */
  saw({ id, history }: Pick<Tab, "id" | "history">, on: boolean): void {
    const before = this.seen;
    this.seen = { id, history };
    this.on = on;
    // a step without a past of its own came with a run; another tab is no change of this one
    if (!on || before?.id !== id || before.history.past === history.past || !matters(before.history.present, history.present)) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.start(), WAIT_MS);
  }

  /** A run has. */
  ended(): void {
    if (this.due) this.start();
  }

  private start(): void {
    this.due = this.on && this.engine.busy();
    if (this.on && !this.due) this.engine.run();
  }
}
