import { setTimeout } from "node:timers/promises";
import { type ErrorCode, NextvladError } from "../base/errors.js";
import { openInput } from "../base/input.js";
import { createRandom } from "../base/random.js";
import { type CorruptPolicy, isPassedOver } from "../data/damage-sieve.js";
import { describeFileList, describeRepeated, type FileList, type FoundShards, findShards } from "../data/file-list.js";
import { FLOAT_TYPES, type FloatType, floatTypeOf, quantiseRemedy } from "../data/float-bytes.js";
import { readPickleShard } from "../data/pickle-shard.js";
import { isPickle } from "../data/shard.js";
import { allEmpty, describeEmpty, describeSegments } from "../data/shard-list.js";
import { checkVideo, type VideoShape } from "../data/video-check.js";
import { findVideo } from "../data/video-parser.js";
import { makeSource, type OpenedSource } from "../formats/byte-source.js";
import { readTfRecordFile } from "../formats/tfrecord.js";

/** Shards that a run will read: their list, and the expected shape of their videos. */
export interface Split {
  readonly list: FileList;
  readonly shape: VideoShape;
  /** The run's policy for corrupt data; by default "error". */
  readonly onCorrupt?: CorruptPolicy;
  /** How the run reads a shard that is listed several times; by default "each time". */
  readonly repeats?: RepeatUse;
}

/**
 * "each time": as often as it is listed. "once": only at its first position. "each time, into results": like "each time", with a warning that the results then
 * contain its videos several times.
 */
export type RepeatUse = "each time" | "once" | "each time, into results";

const REPEAT_NOTES: Readonly<Record<RepeatUse, string>> = {
  "each time": "each is read as often as it is listed",
  once: "each is read once",
  "each time, into results":
    "each is read as often as it is listed, so the results have its videos several times, and ensemble refuses such results",
};

export interface FirstRecords {
  /** The shards of each split, in order; empty if the list cannot be read. */
  readonly lists: readonly (readonly string[])[];
  readonly problems: readonly NextvladError[];
  /** Corrupt data that the run will skip. */
  readonly passedOver: readonly NextvladError[];
  /** Shards whose first record is valid, in no particular order, and the run's policy for corrupt data in each. */
  readonly sound: ReadonlyMap<string, CorruptPolicy>;
  /** Not errors, but possibly unexpected: empty and repeated shards, labels that are not used. */
  readonly warnings: readonly string[];
  readonly shards: number;
  /** Shards whose first record was read: all, unless the time limit was reached. */
  readonly read: number;
}

/** Error codes of a pickle that is read as a TFRecord file. */
const NO_RECORD: ReadonlySet<ErrorCode> = new Set(["NOT_TFRECORD", "CORRUPT_RECORD"]);
/** Files read concurrently: enough to hide the latency of a network file system. */
const OPEN_FILES = 32;
/** Bytes per read. A first record of YouTube-8M has 0.1 to 0.35 MB; the 2 MB blocks for reading whole shards would be wasteful. */
const READ_BYTES = 256 * 1024;

/** A shard whose first record is to be checked. */
interface Head {
  readonly path: string;
  readonly shape: VideoShape;
  readonly onCorrupt: CorruptPolicy;
}

/** Result of checking a shard's first record. */
interface FirstRecord {
  /** Whether the shard has no records. */
  readonly isEmpty: boolean;
  readonly hasSegments: boolean;
  /** The float type that a frame's bytes appear to have; null if they look like one uint8 per feature. */
  readonly floats: FloatType | null;
}

/**
 * Reads the splits' lists, each once, and checks that their files exist and can be read, and that the first record of each is valid for its split. If this
 * takes longer than `limitMs`, as on a slow network with thousands of shards, only the shards read so far, a random sample, are checked. File errors are in the
 * result, not thrown.
 */
export async function checkFirstRecords(splits: readonly Split[], cwd: string, limitMs: number): Promise<FirstRecords> {
  const problems: NextvladError[] = [];
  const warnings: string[] = [];
  const heads = new Map<string, Head>();
  const found = await findAll(splits, cwd);
  for (const [list, outcome] of found) {
    if (outcome instanceof NextvladError) problems.push(outcome);
    else {
      if (outcome.problem !== null) problems.push(outcome.problem);
      warnings.push(...outcome.warnings);
      const repeated = describeRepeated(list, outcome.repeated);
      const { repeats = "each time" } = splits.find((split) => split.list === list) ?? {};
      if (repeated !== null) warnings.push(`${repeated}; ${REPEAT_NOTES[repeats]}`);
    }
  }
  const lists = splits.map(({ list, repeats }) => {
    const shards = shardsOf(found.get(list));
    return repeats === "once" ? [...new Set(shards)] : shards;
  });
  for (const [i, { shape, onCorrupt = "error" }] of splits.entries()) {
    for (const path of lists[i] as readonly string[]) heads.set(`${shape.labels} ${path}`, { path, shape, onCorrupt });
  }
  const waiting = createRandom(0, "shards", 0).shuffle([...heads.values()]);
  const failures = new Map<string, NextvladError>();
  const damages = new Map<string, NextvladError>();
  const sound = new Map<string, CorruptPolicy>();
  const seen = new Map<string, FirstRecord>();
  const endMs = performance.now() + limitMs;
  const isOver = (): boolean => performance.now() >= endMs;
  let read = 0;
  const readOn = async (): Promise<void> => {
    for (let next = waiting.pop(); next !== undefined && !isOver(); next = waiting.pop()) {
      const { path, shape, onCorrupt } = next;
      try {
        const first = await checkFirstRecord(path, shape, isOver);
        if (isOver()) return;
        seen.set(path, first);
        sound.set(path, onCorrupt);
      } catch (thrown) {
        // The read was aborted by the time limit, so the error says nothing about the file.
        if (isOver()) return;
        const error = expected(thrown);
        (isPassedOver(error, onCorrupt) ? damages : failures).set(path, error);
      }
      read++;
    }
  };
  // The run itself reports reads that never return.
  await Promise.race([Promise.all(Array.from({ length: OPEN_FILES }, readOn)), setTimeout(limitMs, undefined, { ref: false })]);
  const inOrder = (errors: ReadonlyMap<string, NextvladError>): NextvladError[] => {
    const ordered = Array.from(heads.values(), ({ path }) => errors.get(path)).filter((error) => error !== undefined);
    return [...new Set(ordered)];
  };
  const empty = new Set(pathsWhere(seen, ({ isEmpty }) => isEmpty));
  for (const [list, outcome] of found) {
    const shards = shardsOf(outcome);
    if (shards.length > 0 && shards.every((path) => empty.has(path))) problems.push(allEmpty(describeFileList(list), new Set(shards).size));
  }
  const all = [...new Set(lists.flat())];
  const emptyShards = describeEmpty(
    all.filter((path) => empty.has(path)),
    all.length,
  );
  if (emptyShards !== null) warnings.push(emptyShards);
  const segmented = pathsWhere(seen, ({ hasSegments }) => hasSegments);
  if (segmented.length > 0) warnings.push(describeSegments(segmented.length, "shards"));
  for (const type of FLOAT_TYPES) {
    const shards = pathsWhere(seen, ({ floats }) => floats === type);
    if (shards.length > 0) warnings.push(describeFloats(shards, type));
  }
  return {
    lists,
    problems: [...problems, ...inOrder(failures)],
    passedOver: inOrder(damages),
    sound: new Map(sound),
    warnings,
    shards: heads.size,
    read,
  };
}

function describeFloats(shards: readonly string[], type: FloatType): string {
  const which = `the first record of ${shards[0]}${shards.length > 1 ? ` and of ${shards.length - 1} more` : ""}`;
  return `${which} looks like ${type} values, and each byte is read as a feature; ${quantiseRemedy(type)}`;
}

/** Reads each list once, even if several splits name it: a pipe can be read only once. */
async function findAll(splits: readonly Split[], cwd: string): Promise<ReadonlyMap<FileList, FoundShards | NextvladError>> {
  const found = new Map<FileList, FoundShards | NextvladError>();
  for (const list of new Set(splits.map((split) => split.list))) found.set(list, await findShards(list, { cwd }).catch(expected));
  return found;
}

function shardsOf(outcome: FoundShards | NextvladError | undefined): readonly string[] {
  return outcome === undefined || outcome instanceof NextvladError ? [] : outcome.shards;
}

function pathsWhere(seen: ReadonlyMap<string, FirstRecord>, test: (first: FirstRecord) => boolean): string[] {
  return Array.from(seen).flatMap(([path, first]) => (test(first) ? [path] : []));
}

function expected(error: unknown): NextvladError {
  if (error instanceof NextvladError) return error;
  throw error;
}

/** Checks the first record. Once `isOver` returns true, reads return no more data, so that a long record does not take memory and time from the run. */
async function checkFirstRecord(path: string, shape: VideoShape, isOver: () => boolean): Promise<FirstRecord> {
  const openSource = (file: string, headBytes: number): Promise<OpenedSource> => openHeadSource(file, headBytes, isOver);
  try {
    for await (const record of readTfRecordFile(path, { openSource, maxRecordBytes: shape.maxRecordBytes })) {
      const { found, place, hasSegments } = findVideo(record, { ...shape, maxFrames: 1 });
      const { features } = checkVideo(found, shape, place);
      const types = features.map((feature) => (feature === undefined ? null : floatTypeOf(feature.data)));
      return { isEmpty: false, hasSegments, floats: types[0] ?? types[1] ?? null };
    }
  } catch (error) {
    // Checked only after an error, because each additional check matters with YouTube-8M's thousands of shards.
    if (!(error instanceof NextvladError) || !NO_RECORD.has(error.code) || !(await isPickle(path))) throw error;
    for await (const _ of readPickleShard(path, shape)) return { isEmpty: false, hasSegments: false, floats: null };
  }
  return { isEmpty: true, hasSegments: false, floats: null };
}

/** Like `openFileSource`, but reads small blocks, and concurrently with other files. */
async function openHeadSource(path: string, headBytes: number, isOver: () => boolean): Promise<OpenedSource> {
  const handle = await openInput(path);
  let first: Uint8Array | null = null;
  const readAt = async (target: Uint8Array, position: number): Promise<number> => {
    if (isOver()) return 0;
    if (first === null) {
      const piece = new Uint8Array(READ_BYTES);
      first = piece.subarray(0, (await handle.read(piece, 0, piece.length, 0)).bytesRead);
    }
    const ahead = first.subarray(position, position + target.length);
    target.set(ahead);
    if (ahead.length > 0) return ahead.length;
    return (await handle.read(target, 0, Math.min(target.length, READ_BYTES), position)).bytesRead;
  };
  return makeSource(path, { readAt, close: () => handle.close() }, headBytes);
}
