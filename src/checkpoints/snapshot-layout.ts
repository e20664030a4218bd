import { readdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";

/** The files of a snapshot. */
export const WEIGHTS = "weights.safetensors";
export const OPTIMIZER = "optimizer.safetensors";
export const STATE = "state.json";
export const CONFIG = "config.yaml";

/**
 * Increment this, and add to `UPGRADES` in snapshot-state.ts, if the snapshot format changes or the same state would give a different run (another order of
 * videos, for example).
 */
export const FORMAT_VERSION = 3;

const PREFIX = "NEXTVLAD_";
export const BEST = "best";

export const weightsFile = (snapshot: string): string => join(snapshot, WEIGHTS);
export const optimizerFile = (snapshot: string): string => join(snapshot, OPTIMIZER);

/** Returns the path of `NEXTVLAD_epoch{N}`, with N counted from 0. */
export const epochSnapshot = (saveDir: string, epoch: number): string => join(saveDir, `${PREFIX}epoch${epoch}`);
/** Returns the path of `NEXTVLAD_step{N}`, a snapshot inside an epoch after N steps. */
export const stepSnapshot = (saveDir: string, step: number): string => join(saveDir, `${PREFIX}step${step}`);
export const bestSnapshot = (saveDir: string): string => join(saveDir, BEST);

/** Parses a snapshot's name. Returns null for `best` and for other names. */
export function parseSnapshotName(name: string): { readonly kind: "epoch" | "step"; readonly number: number } | null {
  const [, kind, number] = /^NEXTVLAD_(epoch|step)(\d+)$/.exec(name) ?? [];
  return kind === undefined ? null : { kind: kind as "epoch" | "step", number: Number(number) };
}

/** Returns whether a snapshot is directly in a save-dir; relative paths are resolved. */
export function liesIn(saveDir: string, snapshot: string): boolean {
  return dirname(resolve(snapshot)) === resolve(saveDir);
}

/** Lists the names of the snapshots in a save-dir; empty if it does not exist. */
export async function listSnapshots(saveDir: string): Promise<readonly string[]> {
  const names = await readdir(saveDir).catch(() => []);
  return names.filter((name) => name === BEST || parseSnapshotName(name) !== null).sort();
}
