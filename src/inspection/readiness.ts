import { NextvladError } from "../base/errors.js";
import { groupErrors, joinErrors } from "../base/problem-list.js";
import { adviseSkipping, isPassedOver, type SkipOption } from "../data/damage-sieve.js";
import { readEigenFactor } from "../model/eigen.js";
import { checkFirstRecords, type Split } from "./first-records.js";
import { checkHeaders } from "./header-check.js";
import { requireSpace, type SpaceNeed } from "./space.js";

/** Time limit for checking first records. YouTube-8M's 3,844 shards take about a second from a local disk. */
const FIRST_RECORDS_MS = 10_000;
/** Time limit for walking record headers. */
const HEADERS_MS = 2000;

/** What a run needs before its first step. */
export interface Needs {
  readonly splits: readonly Split[];
  /** MODEL.eigen_file, and how many values it must have; null if it will not be read. */
  readonly eigen: { readonly file: string; readonly features: number } | null;
  readonly space: SpaceNeed | null;
  /** The option that skips corrupt records, for errors; by default --on-corrupt. */
  readonly skipOption?: SkipOption;
}

/** Problems that prevent a run, and notes for its log. */
export interface Findings {
  /** The shards of each split, in order. */
  readonly lists: readonly (readonly string[])[];
  readonly problems: readonly NextvladError[];
  readonly warnings: readonly string[];
  readonly notes: readonly string[];
}

/** Checks everything that a run needs, without TensorFlow and without reading all data. */
export async function findObstacles({ splits, eigen, space, skipOption }: Needs, cwd: string): Promise<Findings> {
  const records = await checkFirstRecords(splits, cwd, FIRST_RECORDS_MS);
  const others = await Promise.all([
    eigen === null ? null : problemOf(readEigenFactor(eigen.file, eigen.features)),
    space === null ? null : problemOf(requireSpace(space)),
  ]);
  const headers = await checkHeaders([...records.sound.keys()], HEADERS_MS, splits[0]?.shape.maxRecordBytes);
  const [passedOver, refused] = [[...records.passedOver], [] as NextvladError[]];
  for (const [path, error] of [...headers.errors].sort(([a], [b]) => (a < b ? -1 : 1))) {
    (isPassedOver(error, records.sound.get(path) ?? "error") ? passedOver : refused).push(error);
  }
  const shortWalk =
    headers.checked < records.sound.size
      ? [
          `checked the record headers of ${headers.checked} of ${records.sound.size} shards in ${HEADERS_MS / 1000} s; the others are checked as they are read`,
        ]
      : [];
  const isShort = records.read < records.shards;
  const note = `checked the first records of ${records.read} of ${records.shards} shards in ${FIRST_RECORDS_MS / 1000} s; the others are checked as they are read`;
  const damages = groupErrors(passedOver).map(({ message }) => `corrupt, skipped because of on_corrupt: ${message}`);
  return {
    lists: records.lists,
    warnings: records.warnings,
    problems: [
      ...[...records.problems, ...refused].map((error) => adviseSkipping(error, skipOption)),
      ...others.filter((problem) => problem !== null),
    ],
    notes: [...(isShort ? [note] : []), ...shortWalk, ...damages],
  };
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
  return joinErrors(problems, "NOT_READY", (count) => `the run cannot start, for ${count} reasons`);
}
