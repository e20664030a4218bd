import { NextvladError } from "../base/errors.js";
import { groupErrors, joinErrors } from "../base/problem-list.js";
import type { CorruptPolicy } from "../config/value-types.js";
import { adviseSkipping, canSkip, type SkipOption } from "../data/corrupt-records.js";
import { describeFileList, describeRepeated, type FileList, type FoundShards, findShards } from "../data/file-list.js";
import { allEmpty, type Shard, uniqueShards } from "../data/shard.js";
import type { VideoShape } from "../data/video.js";
import { readEigenFactor } from "../model/eigen.js";
import { CHECK_LIMITS, checkShards, emptyShards, limitNotes, type ShardCheck, shardWarnings, unratedShards } from "./shard-checks.js";
import { requireSpace, type SpaceNeed } from "./snapshot-space.js";

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
 * "each time": repetitions are read too. "once": a shard is read only at its first position. "each time, into results": like "each time", with a warning that
 * the results then contain its videos several times.
 */
export type RepeatUse = "each time" | "once" | "each time, into results";

const REPEAT_NOTES: Readonly<Record<RepeatUse, string>> = {
  "each time": "each repetition is read again",
  once: "each is read once",
  "each time, into results": "each repetition is read again, so the results repeat its videos, and ensemble rejects such results",
};

/** Result of the checks before a run. */
export interface Findings {
  /** The shards of each list, in order, with the checksums of their ends; empty if the list cannot be read. */
  readonly lists: readonly (readonly Shard[])[];
  /** Errors that prevent the run. */
  readonly problems: readonly NextvladError[];
  /** Not errors, but possibly unexpected: empty and repeated shards, labels that are not used. */
  readonly warnings: readonly string[];
  /** Checks that are incomplete, and corrupt data that the run will skip. */
  readonly notes: readonly string[];
}

/**
 * Checks everything that a run needs, without TensorFlow and without reading all data: the lists, the first record and the record headers of each shard, the
 * eigen file, and the disk space. Shards past the time limits are not checked, as on a slow network with thousands of them. Errors of files are in the result,
 * not thrown.
 */
export async function preflight(needs: Needs, cwd: string, limits = CHECK_LIMITS): Promise<Findings> {
  const { lists, onCorrupt = "error", repeats = "each time", eigen, space, skipOption } = needs;
  const found = await findLists(lists, cwd);
  const listed = lists.map((list) => found.get(list)?.shards ?? []);
  const [checks, ...others] = await Promise.all([
    checkShards(uniqueShards(listed.flat()), needs.shape, limits),
    eigen === null ? null : problemOf(readEigenFactor(eigen.file, eigen.features)),
    space === null ? null : problemOf(requireSpace(space)),
  ]);
  const examined = new Map(checks.map(({ shard, endsCrc32c }) => [shard.path, { ...shard, endsCrc32c }]));
  const shards = listed.map((list) => list.map((shard) => examined.get(shard.path) ?? shard));
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

type FoundLists = ReadonlyMap<FileList, FoundShards>;

/** Reads each list once, even if it is named twice: a pipe can be read only once. */
async function findLists(lists: readonly FileList[], cwd: string): Promise<FoundLists> {
  const found = new Map<FileList, FoundShards>();
  for (const list of new Set(lists)) {
    const outcome = await findShards(list, { cwd }).catch((error: unknown): FoundShards => {
      if (error instanceof NextvladError) return { shards: [], repeated: [], problem: error, warnings: [] };
      throw error;
    });
    found.set(list, outcome);
  }
  return found;
}

function listProblems(found: FoundLists, checks: readonly ShardCheck[]): readonly NextvladError[] {
  const empty = new Set(emptyShards(checks));
  const unreadable = Array.from(found.values(), ({ problem }) => problem);
  const allEmptyLists = Array.from(found, ([list, { shards }]) => {
    const isEmpty = shards.length > 0 && shards.every(({ path }) => empty.has(path));
    return isEmpty ? allEmpty(describeFileList(list), uniqueShards(shards).length) : null;
  });
  const unrated = new Set(unratedShards(checks));
  const unratedLists = Array.from(found, ([list, { shards }]) => {
    const isUnrated = shards.length > 0 && shards.every(({ path }) => unrated.has(path));
    return isUnrated ? noRatings(describeFileList(list)) : null;
  });
  return [...unreadable, ...allEmptyLists, ...unratedLists].filter((problem) => problem !== null);
}

/** Returns the error for a list in which no shard seems to have rated segments. */
function noRatings(list: string): NextvladError {
  return new NextvladError("BAD_LABELS", "the first videos of all shards have no rated segments (segment_labels)", {
    file: list,
    key: "MODEL.segments",
    remedy: "use shards of YouTube-8M 2019 (3/frame/validate), or omit --segments to use whole videos",
  });
}

function listWarnings(found: FoundLists, repeats: RepeatUse): readonly string[] {
  return Array.from(found).flatMap(([list, { repeated, warnings }]) => {
    const warning = describeRepeated(list, repeated);
    return warning === null ? warnings : [...warnings, `${warning}; ${REPEAT_NOTES[repeats]}`];
  });
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

/** Returns one error for all problems (NOT_READY if there are several); null if `problems` is empty. */
export function joinProblems(problems: readonly NextvladError[]): NextvladError | null {
  if (problems.length === 0) return null;
  return joinErrors(problems, "NOT_READY", (count) => `the run cannot start: ${count} problems`);
}
