import { dirname, join, resolve } from "node:path";

/** The files of a snapshot. */
export const WEIGHTS = "weights.safetensors";
export const OPTIMIZER = "optimizer.safetensors";
/** With TRAIN.ema_decay: the moving averages of the weights, in the form of exported weights. */
export const EMA = "ema.safetensors";
export const STATE = "state.json";
export const CONFIG = "config.yaml";

/**
 * Increment this, and add to `UPGRADES` in snapshot-state.ts, if the snapshot format changes or the same state would give a different run (another order of
 * videos, for example).
 */
export const FORMAT_VERSION = 7;

export const BEST = "best";

export const weightsFile = (snapshot: string): string => join(snapshot, WEIGHTS);
export const optimizerFile = (snapshot: string): string => join(snapshot, OPTIMIZER);
export const emaFile = (snapshot: string): string => join(snapshot, EMA);

/** Returns the path of `{model}_epoch{N}`, with N counted from 0; `model` is MODEL.name. */
export const epochSnapshot = (saveDir: string, model: string, epoch: number): string => join(saveDir, `${model}_epoch${epoch}`);
/** Returns the path of `{model}_step{N}`, a snapshot inside an epoch after N steps. */
export const stepSnapshot = (saveDir: string, model: string, step: number): string => join(saveDir, `${model}_step${step}`);
export const bestSnapshot = (saveDir: string): string => join(saveDir, BEST);

/** Returns whether a snapshot is directly in a save-dir; relative paths are resolved. */
export function isInside(saveDir: string, snapshot: string): boolean {
  return dirname(resolve(snapshot)) === resolve(saveDir);
}
