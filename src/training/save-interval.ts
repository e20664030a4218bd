import type { SaveInterval } from "../base/save-interval.js";
import type { RunState } from "../checkpoints/snapshot.js";

/** Whether a snapshot is due where the run stands. An epoch's start has the one of the last epoch's end; the run's own start needs none. */
export function isDue(interval: SaveInterval | null, { step, step_in_epoch }: RunState, sinceLastMs: number): boolean {
  if (interval === null || step_in_epoch === 0) return false;
  return "steps" in interval ? step % interval.steps === 0 : sinceLastMs >= interval.ms;
}
