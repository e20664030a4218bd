import { readdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";

/** The files of a snapshot. */
export const WEIGHTS = "weights.safetensors";
export const OPTIMIZER = "optimizer.safetensors";
export const STATE = "state.json";
export const CONFIG = "config.yaml";

/** Raise it, and add to `UPGRADES` of snapshot-state.ts, when a snapshot changes, or when the same state would lead to another future: another order of videos, say. */
export const FORMAT_VERSION = 3;

const PREFIX = "NEXTVLAD_";
export const BEST = "best";

export const weightsFile = (snapshot: string): string => join(snapshot, WEIGHTS);
export const optimizerFile = (snapshot: string): string => join(snapshot, OPTIMIZER);

/** `NEXTVLAD_epoch{N}`, N counted from 0. */
export const epochSnapshot = (saveDir: string, epoch: number): string => join(saveDir, `${PREFIX}epoch${epoch}`);
/** `NEXTVLAD_step{N}`, N steps taken: inside an epoch. */
export const stepSnapshot = (saveDir: string, step: number): string => join(saveDir, `${PREFIX}step${step}`);
export const bestSnapshot = (saveDir: string): string => join(saveDir, BEST);

/** What a snapshot's name says of it; null for `best` and for what is no snapshot. */
export function parseSnapshotName(name: string): { readonly kind: "epoch" | "step"; readonly number: number } | null {
  const [, kind, number] = /^NEXTVLAD_(epoch|step)(\d+)$/.exec(name) ?? [];
  return kind === undefined ? null : { kind: kind as "epoch" | "step", number: Number(number) };
}

/** Whether a snapshot lies in a save-dir, however the two are written. */
export function liesIn(saveDir: string, snapshot: string): boolean {
  return dirname(resolve(snapshot)) === resolve(saveDir);
}

/** The snapshots in a save-dir, by name; empty where it does not exist. */
export async function listSnapshots(saveDir: string): Promise<readonly string[]> {
  const names = await readdir(saveDir).catch(() => []);
  return names.filter((name) => name === BEST || parseSnapshotName(name) !== null).sort();
}
