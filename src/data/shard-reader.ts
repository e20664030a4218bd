import { openFileSource } from "../formats/containers/byte-source.js";
import { mayStartTfRecord, readTfRecordFile, startsTfRecord } from "../formats/containers/tfrecord.js";
import { looksLikePickle } from "../formats/pickle/unpickler.js";
import { type Allocate, allocateUnpooled } from "../formats/protobuf/feature-list.js";
import { DamageSieve } from "./damage-sieve.js";
import { readPickleShard } from "./pickle-shard.js";
import type { ShardVideo } from "./video.js";
import type { VideoShape } from "./video-check.js";
import { parseVideo } from "./video-parser.js";

const HEAD_BYTES = 64;

/** Options for reading a shard, besides the shape of its videos. */
export interface ShardOptions {
  /** Skips corrupt records or throws their errors; throws by default. */
  readonly sieve?: DamageSieve;
  /** Allocates memory for the frames; by default, each video has its own. */
  readonly allocate?: Allocate;
  /** Called if a record is skipped: the memory allocated since the previous video is unused. */
  readonly undo?: () => void;
}

/**
 * Reads a shard's videos in file order. The shard is a TFRecord file or a PaddleVideo pickle, detected by its content.
 * Throws what `readTfRecordFile`, `parseVideo` and `readPickleShard` throw, except errors that the sieve skips.
 */
export async function* readShard(path: string, shape: VideoShape, options: ShardOptions = {}): AsyncGenerator<ShardVideo, void> {
  const { sieve = new DamageSieve("error"), allocate = allocateUnpooled, undo } = options;
  try {
    if (await isPickle(path)) yield* readPickleShard(path, shape, sieve, allocate, undo);
    else yield* readVideos(path, shape, sieve, allocate, undo);
  } catch (error) {
    sieve.endShard(error);
  }
}

async function* readVideos(
  path: string,
  shape: VideoShape,
  sieve: DamageSieve,
  allocate: Allocate,
  undo?: () => void,
): AsyncGenerator<ShardVideo, void> {
  for await (const record of readTfRecordFile(path, {
    onBadData: (error) => sieve.leaveRecord(error),
    maxRecordBytes: shape.maxRecordBytes,
  })) {
    const video = await sieve.pass(() => parseVideo(record, shape, allocate));
    record.release?.();
    if (video === null) undo?.();
    else yield { video, filePosition: record.filePosition };
  }
}

/** Whether a shard is a pickle. Throws FILE_MISSING, FILE_UNREADABLE. */
export async function isPickle(path: string): Promise<boolean> {
  const { source, head } = await openFileSource(path, HEAD_BYTES);
  await source.close();
  // In a pickle of protocol 4 or 5, a frame's length has as many zero bytes as a record's length.
  const isFramed = head[0] === 0x80 && head[2] === 0x95;
  return looksLikePickle(head) && !(isFramed ? startsTfRecord(head) : mayStartTfRecord(head));
}
