import type { BigIntStats, Stats } from "node:fs";
import { basename } from "node:path";
import { NextvladError } from "../base/errors.js";
import { type PositionedReader, readFully } from "../base/input.js";
import { listFirst } from "../base/problem-list.js";
import { formatChecksum } from "../formats/checksum.js";
import type { RecordSkip } from "../formats/containers/tfrecord.js";
import { crc32c } from "../formats/crc32.js";
import type { Allocate } from "../formats/protobuf/feature-list.js";
import type { CorruptRecordFilter, SkippedRecord } from "./corrupt-records.js";

/** A file of videos, examined once: its size and time when the list that names it is resolved, and its ends by the checks before a run. */
export interface Shard {
  /** Absolute. */
  readonly path: string;
  /** Size of the file; 0 if it cannot be examined: its reader reports the error. */
  readonly bytes: number;
  /** Modification time in milliseconds; null if it is not a regular file or cannot be examined. */
  readonly modifiedMs: number | null;
  /** See `checksumEnds`; null until the checks before a run read it, or if they could not read it in time. */
  readonly endsCrc32c: string | null;
}

/** Returns the shard at a path. `stats` is null if the path cannot be examined. */
export function shardAt(path: string, stats: Stats | BigIntStats | null): Shard {
  if (stats === null) return { path, bytes: 0, modifiedMs: null, endsCrc32c: null };
  const modifiedMs = stats.isFile() ? Math.trunc(Number(stats.mtimeMs)) : null;
  return { path, bytes: Number(stats.size), modifiedMs, endsCrc32c: null };
}

/** Options for reading a shard. */
export interface ShardReadOptions {
  /** Skips corrupt records or throws their errors; throws by default. */
  readonly filter?: CorruptRecordFilter;
  /** Allocates memory for the frames; by default, each video has its own. */
  readonly allocate?: Allocate;
  /** Called if a record is skipped: the memory allocated since the previous video is unused. */
  readonly rollback?: () => void;
  /** Records to skip without reading their videos; by default none. */
  readonly skip?: RecordSkip | undefined;
}

/** Returns the shards without repetitions of a path. */
export function uniqueShards(shards: readonly Shard[]): Shard[] {
  return [...new Map(shards.map((shard) => [shard.path, shard])).values()];
}

/** A record: the index of its shard in the list, and its index in the shard. */
export interface RecordPosition {
  readonly shard: number;
  readonly record: number;
}

/** Identifies a list of shards: their number, and the CRC-32C of their names and sizes in the list's order. */
export interface ListFingerprint {
  readonly count: number;
  readonly crc32c: string;
  /** Name of a shard that was corrupt. Its size is not in the checksum, because a valid copy may have another size. */
  readonly corrupt?: string | undefined;
  /** Undefined in states written by older versions. */
  readonly contents?: ShardContents | undefined;
  /** The videos of an epoch, counted by `countRecords`; undefined if nothing depends on it. */
  readonly videos?: number | undefined;
  /** The maximum number of videos of an epoch; undefined for all. */
  readonly limit_videos?: number | undefined;
  /** The first record of each shard that was skipped as corrupt in the current epoch; undefined if unknown, after an older version wrote the state. */
  readonly first_corrupt?: RecordPosition[] | undefined;
}

/** Detects a shard that was replaced by another one of the same name and size. Both arrays are in the list's order. */
export interface ShardContents {
  /** Modification times in milliseconds; 0 if the shard is not a regular file. */
  readonly modified_ms: number[];
  /** See `Shard.endsCrc32c`. */
  readonly ends_crc32c: (string | null)[];
}

/**
 * Returns what the order of videos depends on besides the seed: the shards' names and sizes in their order, but not their directory. `corrupt` names a shard
 * whose size is ignored.
 */
export function fingerprintList(shards: readonly Shard[], corrupt?: string): ListFingerprint {
  const lines = shards.map(({ path, bytes }) => {
    const name = basename(path);
    return `${name} ${name === corrupt ? "corrupt" : bytes}\n`;
  });
  const list = { count: shards.length, crc32c: formatChecksum(crc32c(lines.join(""))), contents: shardContents(shards) };
  return corrupt === undefined ? list : { ...list, corrupt };
}

/** Adds skipped records of the given shards to the first ones of each shard. */
export function addFirstCorrupt(
  known: readonly RecordPosition[],
  shards: readonly Shard[],
  skipped: readonly SkippedRecord[],
): RecordPosition[] {
  const first = new Map(known.map(({ shard, record }) => [shard, record]));
  const indices = new Map(shards.map(({ path }, shard) => [path, shard]));
  for (const { error } of skipped) {
    const { file = "", record = 0 } = error.details;
    const shard = indices.get(file);
    if (shard !== undefined) first.set(shard, Math.min(record, first.get(shard) ?? record));
  }
  return Array.from(first, ([shard, record]) => ({ shard, record }));
}

/** Returns what detects shards that were replaced since. */
export function shardContents(shards: readonly Shard[]): ShardContents {
  return { modified_ms: shards.map(({ modifiedMs }) => modifiedMs ?? 0), ends_crc32c: shards.map(({ endsCrc32c }) => endsCrc32c) };
}

const ENDS_BYTES = 16_384;

/**
 * Returns the CRC-32C of a shard's first and last `ENDS_BYTES` bytes and of the first record's own checksum. The last record of a TFRecord file ends with the
 * checksum of its data, and gzip ends with the checksum of all data; the first record's checksum is found by its length. So these few bytes cover both records.
 */
export async function checksumEnds(file: PositionedReader, size: number): Promise<string> {
  const read = async (length: number, position: number): Promise<Uint8Array> => {
    const bytes = new Uint8Array(length);
    return bytes.subarray(0, await readFully(file, bytes, position));
  };
  const head = await read(Math.min(ENDS_BYTES, size), 0);
  let crc = crc32c(head);
  const length = head.length < 8 ? size : Number(new DataView(head.buffer).getBigUint64(0, true));
  if (length + RECORD_OVERHEAD <= size) crc = crc32c(await read(4, 12 + length), crc);
  if (size > ENDS_BYTES) crc = crc32c(await read(ENDS_BYTES, size - ENDS_BYTES), crc);
  return formatChecksum(crc);
}

/** Bytes of a TFRecord besides its data: its length, and the checksums of length and data. */
const RECORD_OVERHEAD = 16;

/**
 * Throws BAD_CONFIG if a run resumes within an epoch with another list of shards than `then`, or with changed shards: it would see some videos twice and others
 * never.
 */
export function assertSameShards(shards: readonly Shard[], then: ListFingerprint): void {
  const now = fingerprintList(shards, then.corrupt);
  if (then.count !== now.count || then.crc32c !== now.crc32c) {
    throw new NextvladError(
      "BAD_CONFIG",
      "resuming inside an epoch needs the same list of shards, because the order of videos depends on it",
      {
        key: "TRAIN.filelist",
        expected: formatFingerprint(then),
        found: formatFingerprint(now),
        remedy: "use the run's own list, or resume from the end of an epoch ({MODEL.name}_epoch{N}), where another list is allowed",
      },
    );
  }
  if (then.contents === undefined) return;
  const remedy = "restore the shard, or resume from the end of an epoch ({MODEL.name}_epoch{N}), where other shards are allowed";
  assertSameContents(shards, then.contents, { key: "TRAIN.filelist", remedy, corrupt: then.corrupt });
}

/**
 * Throws BAD_CONFIG if a shard has another modification time than `then`, and its first or last bytes differ too, provided that both checksums are known. A
 * copy with the same content passes.
 * `corrupt` names a shard that may differ.
 */
export function assertSameContents(
  shards: readonly Shard[],
  then: ShardContents,
  { corrupt, ...details }: { readonly key: string; readonly remedy: string; readonly corrupt?: string | undefined },
): void {
  const now = shardContents(shards);
  const isChanged = (shard: number): boolean => {
    const [before, after] = [then.ends_crc32c[shard] ?? null, now.ends_crc32c[shard] ?? null];
    return then.modified_ms[shard] !== now.modified_ms[shard] && before !== null && after !== null && before !== after;
  };
  const changed = shards.flatMap(({ path }, shard) => (isChanged(shard) && basename(path) !== corrupt ? [shard] : []));
  const first = changed[0];
  if (first === undefined) return;
  const others = changed.length === 1 ? "" : ` (and of ${changed.length - 1} more)`;
  const what = `the content of this shard${others} has changed since the run started, although its name and size are the same`;
  const describe = ({ modified_ms, ends_crc32c }: ShardContents): string =>
    `${new Date(modified_ms[first] as number).toISOString()} with checksum ${ends_crc32c[first]}`;
  throw new NextvladError("BAD_CONFIG", what, {
    ...details,
    file: (shards[first] as Shard).path,
    expected: describe(then),
    found: describe(now),
  });
}

/** Formats a fingerprint for errors about a mismatch, and for the settings of partial results. */
export function formatFingerprint({ count, crc32c }: ListFingerprint): string {
  return `${count} shards, names and sizes ${crc32c}`;
}

/** Returns a warning about the `empty` shards, which have no records, out of `shards` listed; null if `empty` is empty. */
export function describeEmpty(empty: readonly string[], shards: number): string | null {
  if (empty.length === 0) return null;
  const count = `${empty.length} of ${shards} ${shards === 1 ? "shard" : "shards"} ${empty.length === 1 ? "is" : "are"} empty (0 records)`;
  return `${count}: ${listFirst(empty)}`;
}

/** Returns the error for a list in which every shard is empty. */
export function allEmpty(list: string, shards: number): NextvladError {
  return new NextvladError("TOO_FEW_VIDEOS", `${shards === 1 ? "the shard is" : `all ${shards} shards are`} empty: there are no records`, {
    file: list,
    remedy: "check how the shards were written, or use others",
  });
}

/** Returns a warning about videos with the segment labels of YouTube-8M 2019. `what`: "shards" or "videos". */
export function describeSegments(count: number, what: "shards" | "videos"): string {
  return `segment labels (segment_labels, YouTube-8M 2019) in ${count} ${count === 1 ? what.slice(0, -1) : what} are not used: video-level labels are`;
}
