import { constants, copyFile, link, open, readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { parse } from "yaml";
import { fileError, NextvladError } from "../base/errors.js";
import { type Content, removeDirectory, writeDirectoryAtomic, writeFileAtomic } from "../base/files.js";
import { openInput, readInput } from "../base/input.js";
import { MODEL_NAMES } from "../config/value-types.js";
import { formatChecksum } from "../formats/checksum.js";
import { crc32c } from "../formats/crc32.js";
import { SafetensorsFile } from "../formats/tensors/safetensors.js";
import { BEST, bestSnapshot, CONFIG, EMA, epochSnapshot, OPTIMIZER, STATE, WEIGHTS, weightsFile } from "./snapshot-layout.js";
import { type FileChecksums, parseState, type RunState, type SnapshotState } from "./snapshot-state.js";
import { encodeState } from "./snapshot-writer.js";
import { assertFinite } from "./weight-source.js";

export { bestSnapshot, emaFile, epochSnapshot, optimizerFile, stepSnapshot, weightsFile } from "./snapshot-layout.js";
export type { RunState, SnapshotState, WrittenBy } from "./snapshot-state.js";
export { type SnapshotContent, writeSnapshot } from "./snapshot-writer.js";

const SNAPSHOT_NAME = new RegExp(`^(${MODEL_NAMES.join("|")})_(epoch|step)(\\d+)$`);

/** Parses a snapshot's name. Returns null for `best` and for other names. */
export function parseSnapshotName(
  name: string,
): { readonly model: string; readonly kind: "epoch" | "step"; readonly number: number } | null {
  const [, model, kind, number] = SNAPSHOT_NAME.exec(name) ?? [];
  return model === undefined ? null : { model, kind: kind as "epoch" | "step", number: Number(number) };
}

/** Lists the names of the snapshots in a save-dir, of all models; empty if it does not exist. */
export async function listSnapshots(saveDir: string): Promise<readonly string[]> {
  const names = await readdir(saveDir).catch(() => []);
  return names.filter((name) => name === BEST || parseSnapshotName(name) !== null).sort();
}

/** Throws BAD_SNAPSHOT, with the missing files, if the path is not a snapshot directory with all `needed` files. */
export async function requireSnapshot(path: string, needed: readonly string[] = [WEIGHTS, STATE, CONFIG]): Promise<void> {
  const found = await stat(path).catch((error: unknown) => {
    throw fileError(error, path, "read");
  });
  const names = found.isDirectory() ? await readdir(path) : [];
  const missing = needed.filter((name) => !names.includes(name));
  if (missing.length === 0) return;
  const what = found.isDirectory() ? `not a snapshot: ${missing.join(", ")} missing` : "not a snapshot, but a file";
  const remedy = `pass a directory that nextvlad train wrote, such as ${epochSnapshot("", MODEL_NAMES[0], 5)} or ${BEST}`;
  throw new NextvladError("BAD_SNAPSHOT", what, { file: path, remedy });
}

/**
 * Throws BAD_SNAPSHOT if the path is not a directory with weights, or if the weights do not match the checksum in its state. The other files of a snapshot may
 * be missing.
 */
export async function requireWeights(path: string): Promise<void> {
  await requireSnapshot(path, [WEIGHTS]);
  const names = await readdir(path);
  if (!names.includes(STATE)) return;
  const { files } = await readState(path);
  const checksum = files?.[WEIGHTS];
  if (checksum !== undefined) await verifyChecksum(join(path, WEIGHTS), checksum);
}

/** Reads the config of a snapshot as parsed YAML, without validation. Throws BAD_SNAPSHOT, FILE_MISSING, FILE_UNREADABLE. */
export async function readSnapshotConfig(snapshot: string): Promise<unknown> {
  await requireSnapshot(snapshot);
  const path = join(snapshot, CONFIG);
  try {
    return parse((await readInput(path)).toString("utf8"));
  } catch (error) {
    throw fileError(error, path, "read");
  }
}

/** Reads the run state and the checksums of a snapshot. Throws BAD_SNAPSHOT if the state is invalid or of an unknown format version. */
export async function readSnapshotState(snapshot: string): Promise<SnapshotState> {
  await requireSnapshot(snapshot);
  return readState(snapshot);
}

async function readState(snapshot: string): Promise<SnapshotState> {
  const file = join(snapshot, STATE);
  return parseState((await readInput(file)).toString("utf8"), file);
}

/**
 * Reads a snapshot's state, and verifies the checksums of its other files by reading them completely. Snapshots of format version 1 have no checksums.
 * Throws BAD_SNAPSHOT, FILE_MISSING, FILE_UNREADABLE.
 */
export async function checkSnapshot(snapshot: string): Promise<SnapshotState> {
  await requireSnapshot(snapshot, [WEIGHTS, OPTIMIZER, STATE, CONFIG]);
  const state = await readSnapshotState(snapshot);
  for (const [name, expected] of Object.entries(state.files ?? {})) await verifyChecksum(join(snapshot, name), expected);
  return state;
}

/** Throws BAD_SNAPSHOT if a file's length or checksum differs from when it was written. */
async function verifyChecksum(file: string, { bytes, crc32c: expected }: FileChecksums[string]): Promise<void> {
  const found = await measureFile(file);
  const remedy = "use another snapshot (--resume without a path finds the newest valid one)";
  if (found.bytes !== bytes) {
    const sizes = { expected: `${bytes} bytes`, found: found.bytes };
    throw new NextvladError("BAD_SNAPSHOT", "file length mismatch: the file has changed since it was written", { file, ...sizes, remedy });
  }
  if (found.crc32c !== expected) {
    const what = "checksum mismatch: the file has changed since it was written";
    throw new NextvladError("BAD_SNAPSHOT", what, { file, expected, found: found.crc32c, remedy });
  }
}

const PIECE_BYTES = 1 << 22;

async function measureFile(path: string): Promise<FileChecksums[string]> {
  try {
    const handle = await openInput(path);
    try {
      const piece = new Uint8Array(PIECE_BYTES);
      let [bytes, crc] = [0, 0];
      for (;;) {
        const { bytesRead } = await handle.read(piece, 0, PIECE_BYTES, bytes);
        if (bytesRead === 0) return { bytes, crc32c: formatChecksum(crc) };
        crc = crc32c(piece.subarray(0, bytesRead), crc);
        bytes += bytesRead;
      }
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw fileError(error, path, "read");
  }
}

/** Replaces the run state of a snapshot. Throws FILE_UNWRITABLE and what reading the state throws. */
export async function rewriteState(snapshot: string, state: RunState): Promise<void> {
  const { written_by, files } = await readSnapshotState(snapshot);
  await writeFileAtomic(join(snapshot, STATE), encodeState(state, written_by, files));
}

/** Copies a snapshot to `best/` with the given state; arrays are hard-linked if the file system supports it. Returns the path. Throws FILE_UNWRITABLE. */
export async function copyToBest(snapshot: string, saveDir: string, state: RunState): Promise<string> {
  const best = bestSnapshot(saveDir);
  const { written_by, files } = await readSnapshotState(snapshot);
  const config = await readInput(join(snapshot, CONFIG));
  const contents = new Map<string, Content>([
    [CONFIG, config],
    [STATE, encodeState(state, written_by, files)],
  ]);
  await writeDirectoryAtomic(best, contents, async (unfinished) => {
    for (const name of [WEIGHTS, OPTIMIZER, ...(files?.[EMA] === undefined ? [] : [EMA])]) {
      const [from, to] = [join(snapshot, name), join(unfinished, name)];
      await link(from, to).catch(() => copyAndSync(from, to));
    }
  });
  return best;
}

/** Copies a file, for file systems without hard links. */
async function copyAndSync(from: string, to: string): Promise<void> {
  await copyFile(from, to, constants.COPYFILE_EXCL);
  const handle = await open(to, "r+");
  await handle.sync().finally(() => handle.close());
}

/** Returns whether a path for a snapshot is occupied by something else: a file, or a directory with files but none of a snapshot. */
export async function isForeignDirectory(path: string): Promise<boolean> {
  const names = await readdir(path).catch((error: NodeJS.ErrnoException) => (error.code === "ENOENT" ? [] : ["."]));
  return names.length > 0 && !names.some((name) => [WEIGHTS, OPTIMIZER, STATE].includes(name));
}

/** Removes snapshots by name, so that those of an older run are not mistaken for those of a new one. Throws FILE_UNWRITABLE. */
export async function removeSnapshots(saveDir: string, names: readonly string[]): Promise<void> {
  for (const name of names) await removeDirectory(join(saveDir, name));
}

/** The newest valid snapshot (or null), and the corrupt ones that are newer, with their errors. */
export interface NewestSnapshot {
  readonly path: string | null;
  readonly skipped: readonly { readonly name: string; readonly error: NextvladError }[];
}

/** Finds the valid snapshot with the most steps in a save-dir. Throws only unexpected errors: snapshots that fail the check are skipped. */
export async function findNewestSnapshot(saveDir: string): Promise<NewestSnapshot> {
  const skipped: NewestSnapshot["skipped"][number][] = [];
  for (const name of await orderNewestFirst(saveDir)) {
    const path = join(saveDir, name);
    try {
      await checkSnapshot(path);
      return { path, skipped };
    } catch (error) {
      if (!(error instanceof NextvladError)) throw error;
      skipped.push({ name, error });
    }
  }
  return { path: null, skipped };
}

/**
 * Sorts snapshots by steps, most first. Of those with the same step, epoch snapshots come before step snapshots, and both before `best`, a copy. Unreadable
 * snapshots come first.
 */
async function orderNewestFirst(saveDir: string): Promise<readonly string[]> {
  const rank = (name: string): number => (name === BEST ? 0 : parseSnapshotName(name)?.kind === "step" ? 1 : 2);
  const snapshots = await Promise.all(
    (await listSnapshots(saveDir)).map(async (name) => {
      const state = await readSnapshotState(join(saveDir, name)).catch(() => null);
      return { name, step: state?.step ?? Number.POSITIVE_INFINITY, rank: rank(name) };
    }),
  );
  return snapshots.sort((a, b) => (a.step === b.step ? b.rank - a.rank : b.step - a.step)).map(({ name }) => name);
}

/** Adds a remedy to an error about diverged weights: the earlier snapshot to use instead, if the weights are from a snapshot. */
export async function suggestEarlierSnapshot(error: NextvladError, snapshot: string | null): Promise<NextvladError> {
  const { code, what, details, cause } = error;
  const earlier = snapshot === null ? null : await findEarlierFinite(snapshot);
  const other = snapshot === null ? "use other weights" : "use other weights: this save-dir has no earlier valid snapshot";
  const remedy = earlier === null ? other : `use the newest valid snapshot before it: ${earlier}`;
  return new NextvladError(code, what, { ...details, remedy }, cause);
}

/** Returns the newest snapshot in the same save-dir with fewer steps, valid files and finite weights, or null. */
async function findEarlierFinite(snapshot: string): Promise<string | null> {
  const saveDir = dirname(snapshot);
  const limit = (await readSnapshotState(snapshot).catch(() => null))?.step ?? Number.POSITIVE_INFINITY;
  for (const name of await orderNewestFirst(saveDir)) {
    const path = join(saveDir, name);
    if (name === basename(snapshot)) continue;
    const isValid = await checkSnapshot(path).then(
      ({ step }) => step < limit && hasFiniteWeights(path),
      () => false,
    );
    if (isValid) return path;
  }
  return null;
}

async function hasFiniteWeights(snapshot: string): Promise<boolean> {
  const file = await SafetensorsFile.open(weightsFile(snapshot));
  try {
    for (const name of file.tensors.keys()) {
      const { data } = await file.read(name);
      if (data instanceof Float32Array) assertFinite(data, "not finite", {});
    }
    return true;
  } catch {
    return false;
  } finally {
    await file.close();
  }
}

/**
 * Returns the names of the snapshots to remove: all but the `keep` newest, counted from `newest`, which is known to be valid.
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
