import { copyFile, link, open, readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { fileError, NextvladError } from "../base/errors.js";
import { type Content, writeDirectoryAtomic, writeFileAtomic } from "../base/files.js";
import { encodeSafetensors, type NamedTensor } from "../formats/safetensors.js";
import type { StoredArray } from "../tensorflow/variables.js";

const FORMAT_VERSION = 1;
const WEIGHTS = "weights.safetensors";
const OPTIMIZER = "optimizer.safetensors";
const STATE = "state.json";
const CONFIG = "config.yaml";
const PREFIX = "NEXTVLAD_";
const BEST = "best";

const stateSchema = z.strictObject({
  format_version: z.literal(FORMAT_VERSION),
  /** Steps taken. */
  step: z.int().min(0),
  /** Epochs finished; the next one to train. */
  epoch: z.int().min(0),
  /** Steps taken of the epoch at hand, 0 at its start. */
  step_in_epoch: z.int().min(0),
  seed: z.int().min(0),
  /** The best validation so far. */
  best: z.strictObject({ epoch: z.int().min(0), gap: z.number() }).nullable(),
  /** The last epoch that was validated: a run stopped before it could validate makes up for it when it goes on. */
  validated_epoch: z.int().min(0).nullable(),
});

/** Where a run stands: with the weights and moments, all that decides how it goes on. */
export type RunState = z.output<typeof stateSchema>;

/** What a snapshot is made of. */
export interface SnapshotContent {
  readonly weights: Iterable<StoredArray>;
  /** Adam's moments, named as Paddle names them: `P_moment1_0`, `P_moment2_0`. */
  readonly moments: Iterable<StoredArray>;
  readonly state: Omit<RunState, "format_version">;
  readonly configYaml: string;
}

export const weightsFile = (snapshot: string): string => join(snapshot, WEIGHTS);
export const optimizerFile = (snapshot: string): string => join(snapshot, OPTIMIZER);

/** `NEXTVLAD_epoch{N}`, N counted from 0. */
export const epochSnapshot = (saveDir: string, epoch: number): string => join(saveDir, `${PREFIX}epoch${epoch}`);
/** `NEXTVLAD_step{N}`, N steps taken: where a run was stopped inside an epoch. */
export const stepSnapshot = (saveDir: string, step: number): string => join(saveDir, `${PREFIX}step${step}`);
export const bestSnapshot = (saveDir: string): string => join(saveDir, BEST);

function encodeArrays(arrays: Iterable<StoredArray>): Content {
  const tensors = Array.from(
    arrays,
    ({ name, shape, ...array }): NamedTensor => ({ name, shape, dtype: "F32", data: () => array.download() }),
  );
  return encodeSafetensors(tensors);
}

const encodeState = (state: SnapshotContent["state"]): string =>
  `${JSON.stringify({ format_version: FORMAT_VERSION, ...state }, null, 2)}\n`;

/** Writes a snapshot directory; arrays are fetched one at a time. Throws FILE_UNWRITABLE, and what stood there before stays. */
export async function writeSnapshot(path: string, { weights, moments, state, configYaml }: SnapshotContent): Promise<void> {
  const files = new Map<string, Content>([
    [WEIGHTS, encodeArrays(weights)],
    [OPTIMIZER, encodeArrays(moments)],
    [CONFIG, configYaml],
    [STATE, encodeState(state)],
  ]);
  await writeDirectoryAtomic(path, files);
}

/** Throws BAD_SNAPSHOT where the path is no directory with weights, whatever else it lacks. */
export function requireWeights(path: string): Promise<void> {
  return requireSnapshot(path, [WEIGHTS]);
}

/** Sets a snapshot's state anew. Throws FILE_UNWRITABLE. */
export async function rewriteState(snapshot: string, state: SnapshotContent["state"]): Promise<void> {
  await writeFileAtomic(join(snapshot, STATE), encodeState(state));
}

/** Makes `best/` of a snapshot: the same arrays (linked, where the file system can) with the state that names it the best. Throws FILE_UNWRITABLE. */
export async function promoteToBest(snapshot: string, saveDir: string, state: SnapshotContent["state"]): Promise<string> {
  const best = bestSnapshot(saveDir);
  const config = await readFile(join(snapshot, CONFIG));
  const files = new Map<string, Content>([
    [CONFIG, config],
    [STATE, encodeState(state)],
  ]);
  await writeDirectoryAtomic(best, files, async (unfinished) => {
    for (const name of [WEIGHTS, OPTIMIZER]) {
      const [from, to] = [join(snapshot, name), join(unfinished, name)];
      await link(from, to).catch(() => copyAndSync(from, to));
    }
  });
  return best;
}

/** For file systems without links. */
async function copyAndSync(from: string, to: string): Promise<void> {
  await copyFile(from, to);
  const handle = await open(to, "r+");
  await handle.sync().finally(() => handle.close());
}

/** Throws BAD_SNAPSHOT where the path is no snapshot directory; says what one holds. */
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
    remedy: `name a directory that nextvlad train wrote, like ${PREFIX}epoch5 or ${BEST}`,
  });
}

/** The config that a snapshot carries, as parsed YAML, unchecked. Throws BAD_SNAPSHOT, FILE_MISSING, FILE_UNREADABLE. */
export async function readSnapshotConfig(snapshot: string): Promise<unknown> {
  await requireSnapshot(snapshot);
  const path = join(snapshot, CONFIG);
  try {
    return parse(await readFile(path, "utf8"));
  } catch (error) {
    throw fileError(error, path, "read");
  }
}

/** Where the run stood. Throws BAD_SNAPSHOT where the state is not one of ours or of another format version. */
export async function readSnapshotState(snapshot: string): Promise<RunState> {
  await requireSnapshot(snapshot);
  const file = join(snapshot, STATE);
  const text = await readFile(file, "utf8").catch((error: unknown) => {
    throw fileError(error, file, "read");
  });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new NextvladError("BAD_SNAPSHOT", "the state is no JSON", { file, remedy: "take another snapshot" }, error);
  }
  const version = (value as { format_version?: unknown } | null)?.format_version;
  if (version !== FORMAT_VERSION) {
    const remedy = "use the version of nextvlad that wrote it";
    throw new NextvladError("BAD_SNAPSHOT", "the format version is another", {
      file,
      expected: FORMAT_VERSION,
      found: String(version),
      remedy,
    });
  }
  const result = stateSchema.safeParse(value);
  if (!result.success) {
    const issue = result.error.issues[0];
    const what = `the state does not fit: ${issue?.path.join(".")}: ${issue?.message}`;
    throw new NextvladError("BAD_SNAPSHOT", what, { file, remedy: "take another snapshot" });
  }
  return result.data;
}

/** The snapshots in a save-dir, by name; empty where it does not exist. */
export async function listSnapshots(saveDir: string): Promise<readonly string[]> {
  const names = await readdir(saveDir).catch(() => []);
  return names.filter((name) => name === BEST || new RegExp(`^${PREFIX}(epoch|step)\\d+$`).test(name)).sort();
}

/** Removes snapshots by name, so that none of an older run is taken for one of the new. */
export async function removeSnapshots(saveDir: string, names: readonly string[]): Promise<void> {
  for (const name of names) await rm(join(saveDir, name), { recursive: true });
}
