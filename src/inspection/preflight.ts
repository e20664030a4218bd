import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { NextvladError } from "../base/errors.js";
import { openInput } from "../base/input.js";
import { freeBytes } from "../base/output-checks.js";
import { groupErrors, joinErrors } from "../base/problem-list.js";
import { createRandom } from "../base/random.js";
import type { CorruptPolicy } from "../config/value-types.js";
import { adviseSkipping, canSkip, type SkipOption } from "../data/corrupt-records.js";
import { describeFileList, describeRepeated, type FileList, type FoundShards, findShards } from "../data/file-list.js";
import { FLOAT_TYPES, type FloatType, quantizeRemedy } from "../data/float-bytes.js";
import { allEmpty, describeEmpty, describeSegments, type Shard, uniqueShards } from "../data/shard.js";
import type { VideoShape } from "../data/video.js";
import { walkRecordHeaders } from "../formats/containers/tfrecord.js";
import { readEigenFactor } from "../model/eigen.js";
import { parameterTable } from "../model/network.js";
import { countParameters } from "../model/parameters.js";
import { type ModelSection, modelSizes } from "../model/sizes.js";
import { type FirstRecord, readFirstRecord } from "./first-record.js";

/** What a run needs before its first step. */
export interface Needs {
  /** The lists of shards to read, such as those of training and of validation. */
  readonly lists: readonly FileList[];
  /** The expected shape of the videos. */
  readonly shape: VideoShape;
  /** The run's policy for corrupt data; "error" by default. */
  readonly onCorrupt?: CorruptPolicy;
  /** How the run reads a shard that is listed several times; "each time" by default. */
  readonly repeats?: RepeatUse;
  /** MODEL.eigen_file and the number of values that it must have; null if it is not read. */
  readonly eigen: { readonly file: string; readonly features: number } | null;
  readonly space: SpaceNeed | null;
  /** The option that skips corrupt records, for errors; --on-corrupt by default. */
  readonly skipOption?: SkipOption;
}

/**
 * "each time": as often as it is listed. "once": only at its first position. "each time, into results": like "each time", with a warning that the results then
 * contain its videos several times.
 */
export type RepeatUse = "each time" | "once" | "each time, into results";

const REPEAT_NOTES: Readonly<Record<RepeatUse, string>> = {
  "each time": "each is read as often as it is listed",
  once: "each is read once",
  "each time, into results": "each is read as often as it is listed, so the results repeat its videos, and ensemble rejects such results",
};

/** Snapshots that a run will write. */
export interface SpaceNeed {
  /** An existing folder. */
  readonly folder: string;
  /** Number of snapshots at the end of the run. */
  readonly snapshots: number;
  readonly model: ModelSection;
  /** Names of existing snapshots whose space can be reused: they are removed, or count among those at the end of the run. */
  readonly reusable: readonly string[];
}

/** Result of the checks before a run. */
export interface Findings {
  /** The shards of each list, in order; empty if the list cannot be read. */
  readonly lists: readonly (readonly Shard[])[];
  /** Errors that prevent the run. */
  readonly problems: readonly NextvladError[];
  /** Not errors, but possibly unexpected: empty and repeated shards, labels that are not used. */
  readonly warnings: readonly string[];
  /** Checks that are incomplete, and corrupt data that the run will skip. */
  readonly notes: readonly string[];
}

/** Time limits of the shard checks, in milliseconds from their start. */
export interface PreflightLimits {
  /** The shards that are not opened by then are not checked. */
  readonly shardsMs: number;
  /** Until then, record headers are checked in addition to first records. */
  readonly headersMs: number;
}

/** The first records of YouTube-8M's 3,844 shards alone take about a second from a local disk. */
const LIMITS: PreflightLimits = { shardsMs: 10_000, headersMs: 2000 };

/** Shards opened concurrently: enough to hide the latency of a network file system. */
const OPEN_FILES = 32;

/**
 * Checks everything that a run needs, without TensorFlow and without reading all data: the lists, the first record and the record headers of each shard, the
 * eigen file, and the disk space. Opens each shard once, in random order; shards past the time limits are not checked, as on a slow network with thousands of
 * them. Errors of files are in the result, not thrown.
 */
export async function preflight(needs: Needs, cwd: string, limits = LIMITS): Promise<Findings> {
  const { lists, onCorrupt = "error", repeats = "each time", eigen, space, skipOption } = needs;
  const found = await findLists(lists, cwd);
  const shards = lists.map((list) => shardsOf(found.get(list)));
  const [checks, ...others] = await Promise.all([
    checkShards(uniqueShards(shards.flat()), needs.shape, limits),
    eigen === null ? null : problemOf(readEigenFactor(eigen.file, eigen.features)),
    space === null ? null : problemOf(requireSpace(space)),
  ]);
  const errors = checks.map(({ error }) => error).filter((error) => error !== null);
  const isSkipped = (error: NextvladError): boolean => canSkip(error, onCorrupt);
  return {
    lists: repeats === "once" ? shards.map(uniqueShards) : shards,
    problems: [
      ...[...listProblems(found, checks), ...errors.filter((error) => !isSkipped(error))].map((error) => adviseSkipping(error, skipOption)),
      ...others.filter((problem) => problem !== null),
    ],
    warnings: [...listWarnings(found, repeats), ...shardWarnings(checks)],
    notes: [
      ...limitNotes(checks, limits),
      ...groupErrors(errors.filter(isSkipped)).map(({ message }) => `corrupt, skipped because of on_corrupt: ${message}`),
    ],
  };
}

type FoundLists = ReadonlyMap<FileList, FoundShards | NextvladError>;

/** Reads each list once, even if it is named twice: a pipe can be read only once. */
async function findLists(lists: readonly FileList[], cwd: string): Promise<FoundLists> {
  const found = new Map<FileList, FoundShards | NextvladError>();
  for (const list of new Set(lists)) {
    const outcome = await findShards(list, { cwd }).catch((error: unknown) => {
      if (error instanceof NextvladError) return error;
      throw error;
    });
    found.set(list, outcome);
  }
  return found;
}

function shardsOf(found: FoundShards | NextvladError | undefined): readonly Shard[] {
  return found === undefined || found instanceof NextvladError ? [] : found.shards;
}

/** Result of checking a shard. */
interface ShardCheck {
  readonly path: string;
  /** Null if the first record was not read or is invalid. */
  first: FirstRecord | null;
  /** Error of the first record or of a record header. */
  error: NextvladError | null;
  /** Whether all record headers were checked, or cannot be checked. */
  areHeadersChecked: boolean;
}

/** Checks shards concurrently, in random order, until the time limits. Returns a result for each, in the given order. */
async function checkShards(
  shards: readonly Shard[],
  shape: VideoShape,
  { shardsMs, headersMs }: PreflightLimits,
): Promise<readonly ShardCheck[]> {
  const checks = shards.map(({ path }): ShardCheck => ({ path, first: null, error: null, areHeadersChecked: false }));
  const waiting = createRandom(0, "shards", 0).shuffle([...checks]);
  const startMs = performance.now();
  const isOver = (): boolean => performance.now() >= startMs + shardsMs;
  const isHeaderTimeOver = (): boolean => isOver() || performance.now() >= startMs + headersMs;
  const work = async (): Promise<void> => {
    for (let check = waiting.pop(); check !== undefined && !isOver(); check = waiting.pop()) {
      await checkShard(check, shape, isOver, isHeaderTimeOver);
    }
  };
  // A read that never returns does not block this check; the run itself warns about it.
  await Promise.race([Promise.all(Array.from({ length: OPEN_FILES }, work)), setTimeout(shardsMs, undefined, { ref: false })]);
  return checks;
}

/** Opens a shard once, and checks its first record and then its record headers. Stores the results in `check`. */
async function checkShard(check: ShardCheck, shape: VideoShape, isOver: () => boolean, isHeaderTimeOver: () => boolean): Promise<void> {
  const { path } = check;
  try {
    const handle = await openInput(path);
    try {
      const first = await readFirstRecord(handle, path, shape, isOver);
      if (isOver()) return;
      check.first = first;
      if (isHeaderTimeOver()) return;
      const end = await walkRecordHeaders(handle, path, isHeaderTimeOver, shape.maxRecordBytes);
      check.areHeadersChecked = end !== "interrupted";
    } finally {
      await handle.close();
    }
  } catch (error) {
    // A read that the time limit aborted says nothing about the file.
    if (check.first === null && isOver()) return;
    if (error instanceof NextvladError) check.error = error;
    else if (check.first === null) throw error;
    // Other errors of the header check are reported when the run reads the shard.
    check.areHeadersChecked = true;
  }
}

function listProblems(found: FoundLists, checks: readonly ShardCheck[]): readonly NextvladError[] {
  const empty = new Set(pathsWhere(checks, ({ isEmpty }) => isEmpty));
  const unreadable = Array.from(found.values(), (outcome) => (outcome instanceof NextvladError ? outcome : outcome.problem));
  const allEmptyLists = Array.from(found, ([list, outcome]) => {
    const shards = shardsOf(outcome);
    const isEmpty = shards.length > 0 && shards.every(({ path }) => empty.has(path));
    return isEmpty ? allEmpty(describeFileList(list), uniqueShards(shards).length) : null;
  });
  return [...unreadable, ...allEmptyLists].filter((problem) => problem !== null);
}

function listWarnings(found: FoundLists, repeats: RepeatUse): readonly string[] {
  return Array.from(found).flatMap(([list, outcome]) => {
    if (outcome instanceof NextvladError) return [];
    const repeated = describeRepeated(list, outcome.repeated);
    return repeated === null ? outcome.warnings : [...outcome.warnings, `${repeated}; ${REPEAT_NOTES[repeats]}`];
  });
}

function shardWarnings(checks: readonly ShardCheck[]): readonly string[] {
  const empty = describeEmpty(
    pathsWhere(checks, ({ isEmpty }) => isEmpty),
    checks.length,
  );
  const segmented = pathsWhere(checks, ({ hasSegments }) => hasSegments);
  const floats = FLOAT_TYPES.map((type) => [type, pathsWhere(checks, ({ floats }) => floats === type)] as const);
  return [
    ...(empty === null ? [] : [empty]),
    ...(segmented.length === 0 ? [] : [describeSegments(segmented.length, "shards")]),
    ...floats.filter(([, shards]) => shards.length > 0).map(([type, shards]) => describeFloats(shards, type)),
  ];
}

function pathsWhere(checks: readonly ShardCheck[], test: (first: FirstRecord) => boolean): readonly string[] {
  return checks.filter(({ first }) => first !== null && test(first)).map(({ path }) => path);
}

function describeFloats(shards: readonly string[], type: FloatType): string {
  const which = `the first record of ${shards[0]}${shards.length > 1 ? ` (and of ${shards.length - 1} more)` : ""}`;
  return `${which} looks like ${type} values, but each byte is read as one feature; ${quantizeRemedy(type)}`;
}

/** Returns notes about what the time limits left unchecked. */
function limitNotes(checks: readonly ShardCheck[], { shardsMs, headersMs }: PreflightLimits): readonly string[] {
  const read = checks.filter(({ first, error }) => first !== null || error !== null).length;
  const valid = checks.filter(({ first }) => first !== null);
  const complete = valid.filter(({ areHeadersChecked }) => areHeadersChecked).length;
  const note = (what: string, done: number, all: number, ms: number): string =>
    `checked the ${what} of ${done} of ${all} shards in ${ms / 1000} s; the others are checked when they are read`;
  return [
    ...(read < checks.length ? [note("first records", read, checks.length, shardsMs)] : []),
    ...(complete < valid.length ? [note("record headers", complete, valid.length, headersMs)] : []),
  ];
}

/** Size of the rest of a snapshot: two headers, the state and the config. */
const SMALL_FILES_BYTES = 64 * 1024;
const FLOAT_BYTES = 4;

/** Checks that the snapshots fit on the disk. Throws FILE_UNWRITABLE if they do not. */
export async function requireSpace({ folder, snapshots, model, reusable }: SpaceNeed): Promise<void> {
  // Some file systems do not report their free space, so there is nothing to check.
  const free = await freeBytes(folder);
  if (free === null) return;
  const { all, trained } = countParameters(parameterTable(modelSizes(model)));
  // Every value, and Adam's two moments of the trained ones.
  const snapshotBytes = FLOAT_BYTES * (all + 2 * trained) + SMALL_FILES_BYTES;
  const availableBytes = free + (await sizeOf(reusable.map((name) => join(folder, name))));
  if (snapshots * snapshotBytes <= availableBytes) return;
  throw new NextvladError("FILE_UNWRITABLE", "not enough disk space for the run's snapshots", {
    file: folder,
    expected: `${gigabytes(snapshots * snapshotBytes)} for ${snapshots} of ${gigabytes(snapshotBytes)} each`,
    found: gigabytes(availableBytes),
    remedy: "free disk space, use another --save-dir, or train fewer epochs",
  });
}

/** Returns the total size in bytes of the files in some folders, counting hard links once: `best` shares its files with a snapshot. */
async function sizeOf(folders: readonly string[]): Promise<number> {
  const sizes = new Map<string, number>();
  for (const folder of folders) {
    for (const name of await readdir(folder).catch(() => [])) {
      const found = await stat(join(folder, name)).catch(() => null);
      if (found !== null) sizes.set(`${found.dev} ${found.ino}`, found.size);
    }
  }
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toPrecision(3)} GB`;
}

/** Returns the NextvladError that a check throws; null if it succeeds. Rethrows other errors. */
export async function problemOf(check: Promise<unknown>): Promise<NextvladError | null> {
  try {
    await check;
    return null;
  } catch (error) {
    if (error instanceof NextvladError) return error;
    throw error;
  }
}

/** Returns one error for all problems: NOT_READY if there are several; null if there are none. */
export function joinProblems(problems: readonly NextvladError[]): NextvladError | null {
  if (problems.length === 0) return null;
  return joinErrors(problems, "NOT_READY", (count) => `the run cannot start: ${count} problems`);
}
