import { constants, copyFile, link, open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "yaml";
import { fileError, NextvladError } from "../base/errors.js";
import { type Content, removeDirectory, writeDirectoryAtomic, writeFileAtomic } from "../base/files.js";
import { readInput } from "../base/input.js";
import { MODEL_NAMES } from "../config/value-types.js";
import { checkFile } from "./file-checksum.js";
import { BEST, bestSnapshot, CONFIG, epochSnapshot, OPTIMIZER, STATE, WEIGHTS } from "./snapshot-layout.js";
import { parseState, type RunState, type SnapshotState } from "./snapshot-state.js";
import { encodeState } from "./state-encoder.js";

export { bestSnapshot, epochSnapshot, optimizerFile, stepSnapshot, weightsFile } from "./snapshot-layout.js";
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
  if (checksum !== undefined) await checkFile(join(path, WEIGHTS), checksum);
}

/** Replaces the run state of a snapshot. Throws FILE_UNWRITABLE and what reading the state throws. */
export async function rewriteState(snapshot: string, state: RunState): Promise<void> {
  const { written_by, files } = await readSnapshotState(snapshot);
  await writeFileAtomic(join(snapshot, STATE), encodeState(state, written_by, files));
}

/** Copies a snapshot to `best/` with the given state; arrays are hard-linked if the file system supports it. Returns the path. Throws FILE_UNWRITABLE. */
export async function promoteToBest(snapshot: string, saveDir: string, state: RunState): Promise<string> {
  const best = bestSnapshot(saveDir);
  const { written_by, files } = await readSnapshotState(snapshot);
  const config = await readInput(join(snapshot, CONFIG));
  const contents = new Map<string, Content>([
    [CONFIG, config],
    [STATE, encodeState(state, written_by, files)],
  ]);
  await writeDirectoryAtomic(best, contents, async (unfinished) => {
    for (const name of [WEIGHTS, OPTIMIZER]) {
      const [from, to] = [join(snapshot, name), join(unfinished, name)];
      await link(from, to).catch(() => copyAndSync(from, to));
    }
  });
  return best;
}

/** Returns whether a path meant for a snapshot is taken by something else: not a directory, or a directory with files but none of a snapshot. */
export async function isForeignDirectory(path: string): Promise<boolean> {
  const names = await readdir(path).catch((error: NodeJS.ErrnoException) => (error.code === "ENOENT" ? [] : ["."]));
  return names.length > 0 && !names.some((name) => [WEIGHTS, OPTIMIZER, STATE].includes(name));
}

/** Copies a file, for file systems without hard links. */
async function copyAndSync(from: string, to: string): Promise<void> {
  await copyFile(from, to, constants.COPYFILE_EXCL);
  const handle = await open(to, "r+");
  await handle.sync().finally(() => handle.close());
}

/** Throws BAD_SNAPSHOT, with the missing files, if the path is not a snapshot directory with all `needed` files. */
export async function requireSnapshot(path: string, needed: readonly string[] = [WEIGHTS, STATE, CONFIG]): Promise<void> {
  const found = await stat(path).catch((error: unknown) => {
    throw fileError(error, path, "read");
  });
  const names = found.isDirectory() ? await readdir(path) : [];
  const missing = needed.filter((name) => !names.includes(name));
  if (missing.length === 0) return;
  const what = found.isDirectory() ? `this is no snapshot: it holds no ${missing.join(", ")}` : "this is no snapshot, but a file";
  throw new NextvladError("BAD_SNAPSHOT", what, {
    file: path,
    remedy: `name a directory that nextvlad train wrote, like ${epochSnapshot("", MODEL_NAMES[0], 5)} or ${BEST}`,
  });
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

/** Removes snapshots by name, so that those of an older run are not mistaken for those of a new one. Throws FILE_UNWRITABLE. */
export async function removeSnapshots(saveDir: string, names: readonly string[]): Promise<void> {
  for (const name of names) await removeDirectory(join(saveDir, name));
}
