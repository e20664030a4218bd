import { basename, dirname, join } from "node:path";
import { NextvladError } from "../base/errors.js";
import { SafetensorsFile } from "../formats/safetensors.js";
import { checkFile } from "./file-checksum.js";
import { requireFinite } from "./finite.js";
import { readSnapshotState, requireSnapshot } from "./snapshot.js";
import { BEST, CONFIG, listSnapshots, OPTIMIZER, parseSnapshotName, STATE, WEIGHTS, weightsFile } from "./snapshot-layout.js";
import type { SnapshotState } from "./snapshot-state.js";

/**
 * Reads a snapshot's state and then every byte of its other files, and compares them with their checksums; those of format version 1 have none.
 * Throws BAD_SNAPSHOT, FILE_MISSING, FILE_UNREADABLE.
 */
export async function checkSnapshot(snapshot: string): Promise<SnapshotState> {
  await requireSnapshot(snapshot, [WEIGHTS, OPTIMIZER, STATE, CONFIG]);
  const state = await readSnapshotState(snapshot);
  for (const [name, expected] of Object.entries(state.files ?? {})) await checkFile(join(snapshot, name), expected);
  return state;
}

/** A snapshot that was passed over, and why. */
export interface BadSnapshot {
  readonly name: string;
  readonly error: NextvladError;
}

/** The newest snapshot that is whole, null where there is none, and the bad ones that are newer. */
export interface NewestSnapshot {
  readonly path: string | null;
  readonly passedOver: readonly BadSnapshot[];
}

/** Finds the snapshot in a save-dir that stands furthest in the run and is whole to the last byte. Throws what is no bad snapshot's fault. */
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

/** Snapshots by the steps in their state, most first; of those that stand at the same step, epochs before steps before `best`, which lacks nothing but is a copy. Unreadable ones come first. */
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

/** Adds to an error about weights that diverged which snapshot to use instead, if they are a snapshot's. */
export async function withEarlierSnapshot(error: NextvladError, snapshot: string | null): Promise<NextvladError> {
  const { code, what, details, cause } = error;
  const earlier = snapshot === null ? null : await findEarlierGood(snapshot);
  const beside = snapshot === null ? "use other weights" : "no earlier snapshot beside it is good: use other weights";
  const remedy = earlier === null ? beside : `use the newest good snapshot before it: ${earlier}`;
  return new NextvladError(code, what, { ...details, remedy }, cause);
}

/** The newest snapshot in the same save-dir with fewer steps whose files are intact and whose weights are finite; null if there is none. */
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
 * The names of the snapshots that a rotation removes: all but `newest`, which is known to be whole, and those behind it until there are `keep`. `best` is
 * never among them, nor what cannot be read or stands ahead of `newest`, where a resumed run has passed over it as damaged: that is somebody's to look at.
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
