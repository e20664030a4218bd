import type { FileHandle } from "node:fs/promises";
import { type ErrorCode, NextvladError } from "../base/errors.js";
import { type FloatType, floatTypeOf } from "../data/float-bytes.js";
import { readPickleShard } from "../data/pickle-shard.js";
import { isPickle } from "../data/shard-reader.js";
import { checkVideo, type VideoShape } from "../data/video.js";
import { findVideo } from "../data/video-parser.js";
import { makeSource, type OpenedSource } from "../formats/containers/byte-source.js";
import { readTfRecordFile } from "../formats/containers/tfrecord.js";

/** Facts about a shard, from its first record. */
export interface FirstRecord {
  /** Whether the shard has no records. */
  readonly isEmpty: boolean;
  readonly hasSegments: boolean;
  /** The float type that a frame's bytes appear to have; null if they look like one uint8 per feature. */
  readonly floats: FloatType | null;
}

/** Error codes of a pickle that is read as a TFRecord file. */
const NO_RECORD: ReadonlySet<ErrorCode> = new Set(["NOT_TFRECORD", "CORRUPT_RECORD"]);

/** Bytes per read. A first record of YouTube-8M has 0.1 to 0.35 MB; the 2 MB blocks for reading whole shards would be wasteful. */
const READ_BYTES = 256 * 1024;

/**
 * Reads and checks the first record of an open shard. Once `isOver` returns true, reads return no more data, so that a long record does not take memory and
 * time from the run; the result is then meaningless. Throws what reading the record and checking its video throw.
 */
export async function readFirstRecord(handle: FileHandle, path: string, shape: VideoShape, isOver: () => boolean): Promise<FirstRecord> {
  const openSource = (_: string, headBytes: number): Promise<OpenedSource> => openStart(handle, path, headBytes, isOver);
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

/** Returns a source that reads small blocks and leaves the file open. */
function openStart(handle: FileHandle, path: string, headBytes: number, isOver: () => boolean): Promise<OpenedSource> {
  let first: Uint8Array | null = null;
  const readAt = async (target: Uint8Array, position: number): Promise<number> => {
    if (isOver()) return 0;
    if (first === null) {
      const block = new Uint8Array(READ_BYTES);
      first = block.subarray(0, (await handle.read(block, 0, block.length, 0)).bytesRead);
    }
    const ahead = first.subarray(position, position + target.length);
    target.set(ahead);
    if (ahead.length > 0) return ahead.length;
    return (await handle.read(target, 0, Math.min(target.length, READ_BYTES), position)).bytesRead;
  };
  return makeSource(path, { readAt, close: () => Promise.resolve() }, headBytes);
}
