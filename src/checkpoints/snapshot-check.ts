import { basename, dirname, join } from "node:path";
import { NextvladError } from "../base/errors.js";
import { SafetensorsFile } from "../formats/tensors/safetensors.js";
import { checkFile } from "./file-checksum.js";
import { requireFinite } from "./finite.js";
import { listSnapshots, parseSnapshotName, readSnapshotState, requireSnapshot } from "./snapshot.js";
import { BEST, CONFIG, OPTIMIZER, STATE, WEIGHTS, weightsFile } from "./snapshot-layout.js";
import type { SnapshotState } from "./snapshot-state.js";

/**
 * Reads a snapshot's state, and verifies the checksums of its other files by reading them completely. Snapshots of format version 1 have no checksums.
 * Throws BAD_SNAPSHOT, FILE_MISSING, FILE_UNREADABLE.
 */
export async function checkSnapshot(snapshot: string): Promise<SnapshotState> {
  await requireSnapshot(snapshot, [WEIGHTS, OPTIMIZER, STATE, CONFIG]);
  const state = await readSnapshotState(snapshot);
  for (const [name, expected] of Object.entries(state.files ?? {})) await checkFile(join(snapshot, name), expected);
  return state;
}

/** A skipped snapshot and the reason. */
export interface BadSnapshot {
  readonly name: string;
  readonly error: NextvladError;
}

/** The newest intact snapshot (null if there is none), and the skipped ones that are newer. */
export interface NewestSnapshot {
  readonly path: string | null;
  readonly passedOver: readonly BadSnapshot[];
}

/** Finds the intact snapshot with the most steps in a save-dir. Throws only unexpected errors: snapshots that fail the check are skipped. */
export async function findNewestSnapshot(saveDir: string): Promise<NewestSnapshot> {
  const passedOver: BadSnapshot[] = [];
  for (const name of await orderNewestFirst(saveDir)) {
    const path = join(saveDir, name);
    try {
      await checkSnapshot(path);
      return { path, passedOver };
    } catch (error) {
      if (!(error instanceof NextvladError)) throw error;
      passedOver.push({ name, error });
    }
  }
  return { path: null, passedOver };
}

/**
 * Sorts snapshots by steps, most first. Of those with the same step, epoch snapshots come before step snapshots, and both before `best`, a copy. Unreadable
 * snapshots come first.
 */
async function orderNewestFirst(saveDir: string): Promise<readonly string[]> {
  const rank = (name: string): number => (name === BEST ? 0 : parseSnapshotName(name)?.kind === "step" ? 1 : 2);
  const places = await Promise.all(
    (await listSnapshots(saveDir)).map(async (name) => {
      const state = await readSnapshotState(join(saveDir, name)).catch(() => null);
      return { name, step: state?.step ?? Number.POSITIVE_INFINITY, rank: rank(name) };
    }),
  );
  return places.sort((a, b) => (a.step === b.step ? b.rank - a.rank : b.step - a.step)).map(({ name }) => name);
}

/** Adds a remedy to an error about diverged weights: the snapshot to use instead, if the weights are from a snapshot. */
export async function withEarlierSnapshot(error: NextvladError, snapshot: string | null): Promise<NextvladError> {
  const { code, what, details, cause } = error;
  const earlier = snapshot === null ? null : await findEarlierGood(snapshot);
  const beside = snapshot === null ? "use other weights" : "no earlier snapshot beside it is good: use other weights";
  const remedy = earlier === null ? beside : `use the newest good snapshot before it: ${earlier}`;
  return new NextvladError(code, what, { ...details, remedy }, cause);
}

/** Returns the newest snapshot in the same save-dir with fewer steps, intact files and finite weights; null if there is none. */
async function findEarlierGood(snapshot: string): Promise<string | null> {
  const saveDir = dirname(snapshot);
  const limit = (await readSnapshotState(snapshot).catch(() => null))?.step ?? Number.POSITIVE_INFINITY;
  for (const name of await orderNewestFirst(saveDir)) {
    const path = join(saveDir, name);
    if (name === basename(snapshot)) continue;
    const isGood = await checkSnapshot(path).then(
      ({ step }) => step < limit && hasFiniteWeights(path),
      () => false,
    );
    if (isGood) return path;
  }
  return null;
}

async function hasFiniteWeights(snapshot: string): Promise<boolean> {
  const file = await SafetensorsFile.open(weightsFile(snapshot));
  try {
    for (const name of file.tensors.keys()) {
      const { data } = await file.read(name);
      if (data instanceof Float32Array) requireFinite(data, "not finite", {});
    }
    return true;
  } catch {
    return false;
  } finally {
    await file.close();
  }
}

/**
 * Returns the names of the snapshots to remove: all but the `keep` newest, counted from `newest`, which is known to be intact.
 * Never includes `best`, unreadable snapshots, or snapshots newer than `newest`: a resumed run skipped those as corrupt, and the user may want to inspect them.
 */
export async function findOutdated(saveDir: string, keep: number, newest: string): Promise<readonly string[]> {
  const all = await orderNewestFirst(saveDir);
  const names = all.slice(Math.max(0, all.indexOf(newest))).filter((name) => name !== BEST);
  const readable: string[] = [];
  for (const name of names) {
    const state = await readSnapshotState(join(saveDir, name)).catch(() => null);
    if (state !== null) readable.push(name);
  }
  return readable.slice(Math.max(1, keep));
}
