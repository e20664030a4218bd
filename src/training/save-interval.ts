import type { SaveInterval } from "../base/save-interval.js";
import type { RunState } from "../checkpoints/snapshot.js";

/** Returns whether a snapshot is due. Never at the start of an epoch, where the end of the previous epoch has saved one, nor at the start of a run. */
export function isDue(interval: SaveInterval | null, { step, step_in_epoch }: RunState, sinceLastMs: number): boolean {
  if (interval === null || step_in_epoch === 0) return false;
  return "steps" in interval ? step % interval.steps === 0 : sinceLastMs >= interval.ms;
}
