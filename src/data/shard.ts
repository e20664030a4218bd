import { openFileSource } from "../formats/byte-source.js";
import { looksLikePickle } from "../formats/pickle-reader.js";
import { mayStartTfRecord, readTfRecordFile, startsTfRecord } from "../formats/tfrecord.js";
import { DamageSieve } from "./damage-sieve.js";
import { readPickleShard } from "./pickle-shard.js";
import type { ShardVideo } from "./video.js";
import type { VideoShape } from "./video-check.js";
import { parseVideo } from "./video-parser.js";

const HEAD_BYTES = 64;

/**
 * Reads a shard's videos in its order: a TFRecord file or one of PaddleVideo's pickles, told by its content.
 * What is damaged goes through `sieve`, which leaves it out or throws it; by default it throws.
 * Throws what `readTfRecordFile`, `parseVideo` and `readPickleShard` throw.
 */
export async function* readShard(path: string, shape: VideoShape, sieve = new DamageSieve("error")): AsyncGenerator<ShardVideo, void> {
  try {
    if (await isPickle(path)) yield* readPickleShard(path, shape, sieve);
    else yield* readVideos(path, shape, sieve);
  } catch (error) {
    sieve.endShard(error);
  }
}

async function* readVideos(path: string, shape: VideoShape, sieve: DamageSieve): AsyncGenerator<ShardVideo, void> {
  for await (const record of readTfRecordFile(path, { onBadData: (error) => sieve.leaveRecord(error) })) {
    const video = await sieve.pass(() => parseVideo(record, shape));
    if (video !== null) yield { video, filePosition: record.filePosition };
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
