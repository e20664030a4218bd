import { openFileSource } from "../formats/byte-source.js";
import { type Allocate, ownMemory } from "../formats/frame-list.js";
import { looksLikePickle } from "../formats/pickle-reader.js";
import { mayStartTfRecord, readTfRecordFile, startsTfRecord } from "../formats/tfrecord.js";
import { DamageSieve } from "./damage-sieve.js";
import { readPickleShard } from "./pickle-shard.js";
import type { ShardVideo } from "./video.js";
import type { VideoShape } from "./video-check.js";
import { parseVideo } from "./video-parser.js";

const HEAD_BYTES = 64;

/** How a shard is read, besides the shape of its videos. */
export interface ShardOptions {
  /** Leaves out what is damaged, or throws it; by default it throws. */
  readonly sieve?: DamageSieve;
  /** Where the frames are copied to; by default into memory of their own. */
  readonly allocate?: Allocate;
  /** Told where what was allocated since the video before is not used, as its record was left out. */
  readonly undo?: () => void;
}

/**
 * Reads a shard's videos in its order: a TFRecord file or one of PaddleVideo's pickles, told by its content.
 * Throws what `readTfRecordFile`, `parseVideo` and `readPickleShard` throw, as far as the sieve lets it.
 */
export async function* readShard(path: string, shape: VideoShape, options: ShardOptions = {}): AsyncGenerator<ShardVideo, void> {
  const { sieve = new DamageSieve("error"), allocate = ownMemory, undo } = options;
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
  // A frame's length, in a pickle of protocol 4 or 5, has as many zero bytes as a record's.
  const isFramed = head[0] === 0x80 && head[2] === 0x95;
  return looksLikePickle(head) && !(isFramed ? startsTfRecord(head) : mayStartTfRecord(head));
}
