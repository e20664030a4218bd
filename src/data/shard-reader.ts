import { stat } from "node:fs/promises";
import { fileError } from "../base/errors.js";
import { readInput } from "../base/input.js";
import { DEFAULT_MAX_RECORD_BYTES } from "../base/numbers.js";
import type { CorruptPolicy } from "../config/value-types.js";
import { type OpenedSource, openFileSource } from "../formats/containers/byte-source.js";
import {
  mayStartTfRecord,
  type PlacedRecord,
  type RecordSkip,
  readTfRecordFile,
  startsTfRecord,
  type TfRecord,
  tooLong,
} from "../formats/containers/tfrecord.js";
import { looksLikePickle } from "../formats/pickle/detect.js";
import { isSequenceExample } from "../formats/protobuf/sequence-example.js";
import { Arena, type BufferPool } from "./buffer-pool.js";
import { CorruptRecordFilter, type SkippedRecord } from "./corrupt-records.js";
import type { ShardReadOptions } from "./shard.js";
import type { ShardVideo, Video, VideoShape } from "./video.js";
import { parseVideo } from "./video-parser.js";

/** Number of first bytes that `isPickleHead` needs. */
export const SHARD_HEAD_BYTES = 64;

/**
 * Reads a shard's videos in file order. The shard is a TFRecord file or a PaddleVideo pickle, detected by its content.
 * Throws what `readTfRecordFile`, `parseVideo` and `readPickleShard` throw, except errors that the filter skips.
 */
export async function* readShard(path: string, shape: VideoShape, options: ShardReadOptions = {}): AsyncGenerator<ShardVideo, void> {
  const { filter = new CorruptRecordFilter("error") } = options;
  try {
    const opened = await openFileSource(path, SHARD_HEAD_BYTES);
    if (isPickleHead(opened.head)) {
      await opened.source.close();
      const { readPickleShard } = await import("./pickle-shard.js");
      yield* readPickleShard(path, shape, { ...options, filter });
    } else yield* readRecords(path, opened, shape, { ...options, filter });
  } catch (error) {
    filter.skipRest(error);
  }
}

async function* readRecords(
  path: string,
  opened: OpenedSource,
  shape: VideoShape,
  { filter, allocate, rollback, skip }: ShardReadOptions & { readonly filter: CorruptRecordFilter },
): AsyncGenerator<ShardVideo, void> {
  const options = {
    openSource: () => Promise.resolve(opened),
    onBadData: (error: unknown) => filter.skipRecord(error),
    maxRecordBytes: shape.maxRecordBytes,
    skip,
  };
  for await (const record of readTfRecordFile(path, options)) {
    const video = await filter.tryParse(() => parseVideo(record, shape, allocate));
    record.release?.();
    if (video === null) rollback?.();
    else yield { video, filePosition: record.filePosition };
  }
}

/** The records of a shard, found by their headers. */
export interface ShardIndex {
  /** Position in the file after each record, as `ShardVideo.filePosition`. */
  readonly ends: Float64Array;
  /** False if the records after these cannot be found, or indexing was cancelled. */
  readonly isComplete: boolean;
  /** Whether `ends` are where the records end, so that one can be read without those before it: in TFRecord files that are not compressed. */
  readonly isSeekable: boolean;
}

/** Finds the records of a shard without reading their videos. Errors are not thrown: they make the index incomplete. */
export async function indexShard(path: string, shape: VideoShape, isCancelled: () => boolean = () => false): Promise<ShardIndex> {
  const ends: number[] = [];
  let isSeekable = true;
  const onSkipped: RecordSkip["onSkipped"] = (end, isExact) => {
    ends.push(end);
    isSeekable &&= isExact;
  };
  const indexUpTo = (isComplete: boolean): ShardIndex => ({ ends: Float64Array.from(ends), isComplete, isSeekable });
  try {
    for await (const _ of readShard(path, shape, { skip: { isSkipped: () => !isCancelled(), onSkipped } })) return indexUpTo(false);
    return indexUpTo(true);
  } catch {
    return indexUpTo(false);
  }
}

/** Whether a shard is a pickle. Throws FILE_MISSING, FILE_UNREADABLE. */
export async function isPickle(path: string): Promise<boolean> {
  const { source, head } = await openFileSource(path, SHARD_HEAD_BYTES);
  await source.close();
  return isPickleHead(head);
}

/** Whether a shard with these first bytes is a pickle. */
export function isPickleHead(head: Uint8Array): boolean {
  // In a pickle of protocol 4 or 5, a frame's length has as many zero bytes as a record's length.
  const isFramed = head[0] === 0x80 && head[2] === 0x95;
  return looksLikePickle(head) && !(isFramed ? startsTfRecord(head) : mayStartTfRecord(head));
}

/** Possible first bytes of a SequenceExample: the tags of its context and of its feature lists. */
const EXAMPLE_STARTS: ReadonlySet<number | undefined> = new Set([0x0a, 0x12]);

/**
 * Reads a file that holds one SequenceExample without TFRecord framing, such as MediaPipe's features.pb. Returns its record, or null for any other file.
 * Throws FILE_MISSING, FILE_UNREADABLE, and CORRUPT_RECORD if a file that starts like a SequenceExample is longer than `maxRecordBytes`.
 */
export async function readUnframedExample(path: string, maxRecordBytes = DEFAULT_MAX_RECORD_BYTES): Promise<TfRecord | null> {
  const { source, head } = await openFileSource(path, SHARD_HEAD_BYTES);
  await source.close();
  if (!EXAMPLE_STARTS.has(head[0]) || startsTfRecord(head)) return null;
  const data = await readWhole(path, maxRecordBytes);
  return isSequenceExample(data) ? { data, file: path, record: 0, byteOffset: 0, filePosition: data.length } : null;
}

async function readWhole(path: string, maxRecordBytes: number): Promise<Uint8Array> {
  try {
    const { size } = await stat(path);
    if (size > maxRecordBytes) throw tooLong({ file: path, record: 0, byteOffset: 0 }, size, maxRecordBytes);
    return await readInput(path, path, maxRecordBytes);
  } catch (error) {
    throw fileError(error, path, "read");
  }
}

/** Consecutive videos of one shard, which a reader thread sends together. */
export interface Block {
  readonly videos: readonly Video[];
  /** Bytes of the shard's file that these videos account for. */
  readonly fileBytes: number;
  /** Whether this is the shard's last block. */
  readonly last: boolean;
  /** Memory that holds nearly all of the videos' bytes, to be released after use. */
  readonly buffer: ArrayBuffer;
  /** Records skipped since the shard's previous block. */
  readonly skipped: readonly SkippedRecord[];
}

/** Videos per block, except for the last block of a shard. A constant, because the shuffled order depends on it. */
export const BLOCK_VIDEOS = 16;

/** Options for reading a shard in blocks. */
export interface BlockOptions extends VideoShape {
  /** Defaults to "error". */
  readonly onCorrupt?: CorruptPolicy;
  /** By default, all. */
  readonly records?: RecordSelection;
}

/** Where a record is in a file that is not compressed, with its framing. */
export interface RecordExtent {
  readonly offset: number;
  readonly bytes: number;
}

/**
 * Records to read, by index: all from `from` on, or these, in ascending order, with their place if it is known. The others are skipped without reading their
 * videos, and without reading their headers if the place of the next is known.
 */
export type RecordSelection = { readonly from: number } | { readonly only: ReadonlyMap<number, RecordExtent | null> };

/** Reads a shard's videos in blocks, with their bytes in buffers from `pool`. Throws what `readShard` throws. */
export async function* readBlocks(path: string, options: BlockOptions, pool: BufferPool): AsyncGenerator<Block, void> {
  const filter = new CorruptRecordFilter(options.onCorrupt ?? "error");
  const arena = new Arena(pool);
  let videos: Video[] = [];
  let before = 0;
  let position = 0;
  const takeBlock = (last: boolean): Block => {
    const block = { videos, fileBytes: position - before, last, buffer: arena.take(), skipped: filter.take() };
    videos = [];
    before = position;
    return block;
  };
  // A full block is held back until the next video shows that it is not the last. Its buffer is already complete, so that video's bytes go into the next one.
  let full: Block | null = null;
  const { records } = options;
  let count = 0;
  const skip =
    records === undefined
      ? undefined
      : skipOthers(records, (end) => {
          if (count > 0) return;
          before = end;
          position = end;
        });
  const { allocate, rollback } = arena;
  for await (const { video, filePosition } of readShard(path, options, { filter, allocate, rollback, skip })) {
    if (full !== null) yield full;
    arena.commit();
    videos.push(video);
    position = filePosition;
    full = videos.length === BLOCK_VIDEOS ? takeBlock(false) : null;
    count++;
    if (records !== undefined && "only" in records && count === records.only.size) break;
  }
  yield full === null ? takeBlock(true) : { ...full, last: true, skipped: [...full.skipped, ...filter.take()] };
}

function skipOthers(records: RecordSelection, onSkipped: (end: number) => void): RecordSkip {
  if ("from" in records) return { isSkipped: (record) => record < records.from, onSkipped };
  const { only } = records;
  const wanted = [...only];
  const next = (record: number): PlacedRecord | null => {
    while (wanted[0] !== undefined && wanted[0][0] < record) wanted.shift();
    const [index = 0, extent = null] = wanted[0] ?? [];
    return extent && { record: index, ...extent };
  };
  return { isSkipped: (record) => !only.has(record), next, onSkipped };
}
