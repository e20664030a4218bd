import type { FileHandle } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";
import { NextvladError } from "../base/errors.js";
import { openInput, type PositionedReader } from "../base/input.js";
import { createRandom } from "../base/random.js";
import { FLOAT_TYPES, type FloatType, floatTypeOf, quantizeRemedy } from "../data/float-bytes.js";
import { ratedSegments } from "../data/segments.js";
import { checksumEnds, describeEmpty, describeSegments, type Shard } from "../data/shard.js";
import { isPickleHead, SHARD_HEAD_BYTES } from "../data/shard-reader.js";
import { checkVideo, type VideoShape } from "../data/video.js";
import { findVideo } from "../data/video-parser.js";
import { makeSource } from "../formats/containers/byte-source.js";
import { readTfRecordFile, walkRecordHeaders } from "../formats/containers/tfrecord.js";

/** Time limits of the shard checks, in milliseconds from their start. */
export interface CheckLimits {
  /** Shards that are not opened by then are not checked. */
  readonly shardsMs: number;
  /** Until then, checksums of the shards' ends are read. */
  readonly endsMs: number;
  /** Until then, all record headers are checked. */
  readonly headersMs: number;
}

/** YouTube-8M's 3,844 shards, from a local disk, take about a second without their record headers. */
export const CHECK_LIMITS: CheckLimits = { shardsMs: 10_000, endsMs: 5000, headersMs: 2000 };

/** Shards opened concurrently: enough to hide the latency of a network file system. */
const OPEN_FILES = 32;

/** Bytes per read. A first record of YouTube-8M has 0.1 to 0.35 MB; the 2 MB blocks for reading whole shards would be wasteful. */
const READ_BYTES = 256 * 1024;

/** Facts about a shard, from its first record. */
interface FirstRecord {
  /** Whether the shard has no records. */
  readonly isEmpty: boolean;
  /** Whether it has segment labels that are not used. */
  readonly hasSegments: boolean;
  /** Whether it lacks segment labels that are needed. */
  readonly lacksSegments: boolean;
  /** The float type that a frame's bytes appear to have; null if they look like one uint8 per feature. */
  readonly floats: FloatType | null;
}

/** Result of checking a shard. */
export interface ShardCheck {
  readonly shard: Shard;
  /** See `checksumEnds`; null if it was not read. */
  endsCrc32c: string | null;
  /** Null if the first record was not read or is invalid. */
  first: FirstRecord | null;
  /** Error of the first record or of a record header. */
  error: NextvladError | null;
  /** Whether all record headers were checked, or cannot be checked. */
  areHeadersChecked: boolean;
}

/**
 * Opens each shard once, concurrently and in random order, until the time limits: reads the checksum of its ends, checks its first record, then its record
 * headers. Returns a result for each shard, in the given order. Errors of files are in the results, not thrown.
 */
export async function checkShards(shards: readonly Shard[], shape: VideoShape, limits = CHECK_LIMITS): Promise<readonly ShardCheck[]> {
  const checks = shards.map((shard): ShardCheck => ({ shard, endsCrc32c: null, first: null, error: null, areHeadersChecked: false }));
  const waiting = createRandom(0, "shards", 0).shuffle([...checks]);
  const startMs = performance.now();
  const isPast: IsPast = (limit) => performance.now() >= startMs + Math.min(limits[limit], limits.shardsMs);
  const work = async (): Promise<void> => {
    const block = new Uint8Array(READ_BYTES);
    for (let check = waiting.pop(); check !== undefined && !isPast("shardsMs"); check = waiting.pop()) {
      await checkShard(check, shape, block, isPast);
    }
  };
  // A read that never returns does not block this check; the run itself warns about it.
  await Promise.race([Promise.all(Array.from({ length: OPEN_FILES }, work)), setTimeout(limits.shardsMs, undefined, { ref: false })]);
  return checks;
}

/** Whether a time limit has passed. */
type IsPast = (limit: keyof CheckLimits) => boolean;

/** Checks a shard; `block` is memory for its first bytes. Stores the results in `check`. */
async function checkShard(check: ShardCheck, shape: VideoShape, block: Uint8Array, isPast: IsPast): Promise<void> {
  const { path, bytes } = check.shard;
  try {
    const handle = await openInput(path);
    try {
      const reader = readStartOnce(handle, block);
      if (!isPast("endsMs")) check.endsCrc32c = await checksumEnds(reader, bytes).catch(() => null);
      const first = await checkFirstRecord(reader, path, shape, isPast);
      if (isPast("shardsMs")) return;
      check.first = first;
      if (isPast("headersMs")) return;
      const end = await walkRecordHeaders(reader, check.shard, () => isPast("headersMs"), shape.maxRecordBytes);
      check.areHeadersChecked = end !== "interrupted";
    } finally {
      await handle.close();
    }
  } catch (error) {
    // A read that the time limit aborted says nothing about the file.
    if (check.first === null && isPast("shardsMs")) return;
    if (error instanceof NextvladError) check.error = error;
    else if (check.first === null) throw error;
    // Other errors of the header check are reported when the run reads the shard.
    check.areHeadersChecked = true;
  }
}

/** Returns a reader of an open file that reads the file's first bytes once, into `block`: all checks need them. */
function readStartOnce(handle: FileHandle, block: Uint8Array): PositionedReader {
  let start: Uint8Array | null = null;
  return {
    async read(target, offset, length, position) {
      start ??= block.subarray(0, (await handle.read(block, 0, block.length, 0)).bytesRead);
      const known = start.subarray(position, position + length);
      if (known.length === 0) return handle.read(target, offset, Math.min(length, READ_BYTES), position);
      target.set(known, offset);
      return { bytesRead: known.length };
    },
  };
}

/**
 * Reads and checks the first record of a shard. After the time limit, reads return no more data, so that a long record does not take memory and time from the
 * run; the result is then meaningless. Throws what reading the record and checking its video throw.
 */
async function checkFirstRecord(reader: PositionedReader, path: string, shape: VideoShape, isPast: IsPast): Promise<FirstRecord> {
  const readAt = async (target: Uint8Array, position: number): Promise<number> =>
    isPast("shardsMs") ? 0 : (await reader.read(target, 0, target.length, position)).bytesRead;
  const opened = await makeSource(path, { readAt, close: () => Promise.resolve() }, SHARD_HEAD_BYTES);
  if (isPickleHead(opened.head)) {
    const { readPickleShard } = await import("../data/pickle-shard.js");
    for await (const _ of readPickleShard(path, shape)) return { isEmpty: false, hasSegments: false, lacksSegments: false, floats: null };
  } else {
    const openSource = () => Promise.resolve(opened);
    for await (const record of readTfRecordFile(path, { openSource, maxRecordBytes: shape.maxRecordBytes })) {
      const { found, place, example, hasSegments } = findVideo(record, { ...shape, maxFrames: 1 });
      const { features } = checkVideo(found, shape, place);
      const types = features.map((feature) => (feature === undefined ? null : floatTypeOf(feature.data)));
      if (shape.segments === "rated") {
        const frames = Math.min(shape.maxFrames, Math.max(...features.map((feature) => feature?.frames ?? 0)));
        ratedSegments(example, { ...shape, frames }, place);
      }
      return {
        isEmpty: false,
        hasSegments: hasSegments && shape.segments === undefined,
        lacksSegments: !hasSegments && shape.segments === "rated",
        floats: types[0] ?? types[1] ?? null,
      };
    }
  }
  return { isEmpty: true, hasSegments: false, lacksSegments: false, floats: null };
}

/** Returns the paths of shards without records. */
export function emptyShards(checks: readonly ShardCheck[]): readonly string[] {
  return pathsWhere(checks, ({ isEmpty }) => isEmpty);
}

/** Returns the paths of shards whose first record has no segment labels although they are needed. */
export function unratedShards(checks: readonly ShardCheck[]): readonly string[] {
  return pathsWhere(checks, ({ lacksSegments }) => lacksSegments);
}

/** Returns warnings about empty shards, labels that are not used, and features that look like floats. */
export function shardWarnings(checks: readonly ShardCheck[]): readonly string[] {
  const empty = describeEmpty(emptyShards(checks), checks.length);
  const segmented = pathsWhere(checks, ({ hasSegments }) => hasSegments);
  const floats = FLOAT_TYPES.map((type) => [type, pathsWhere(checks, ({ floats }) => floats === type)] as const);
  return [
    ...(empty === null ? [] : [empty]),
    ...(segmented.length === 0 ? [] : [describeSegments(segmented.length, "shards")]),
    ...floats.filter(([, shards]) => shards.length > 0).map(([type, shards]) => describeFloats(shards, type)),
  ];
}

function pathsWhere(checks: readonly ShardCheck[], test: (first: FirstRecord) => boolean): readonly string[] {
  return checks.filter(({ first }) => first !== null && test(first)).map(({ shard }) => shard.path);
}

function describeFloats(shards: readonly string[], type: FloatType): string {
  const which = `the first record of ${shards[0]}${shards.length > 1 ? ` (and of ${shards.length - 1} more)` : ""}`;
  return `${which} looks like ${type} values, but each byte is read as one feature; ${quantizeRemedy(type)}`;
}

/** Returns notes about what the time limits left unchecked. */
export function limitNotes(checks: readonly ShardCheck[], { shardsMs, headersMs }: CheckLimits): readonly string[] {
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
