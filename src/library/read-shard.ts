import { readShard as readShardVideos } from "../data/shard-reader.js";
import { ANY_SHAPE, type Video } from "../data/video.js";

export interface ReadShardOptions {
  /** Names of the feature lists that hold the frames: of rgb, then of audio. By default "rgb" and "audio". No effect on a pickle. */
  readonly featureNames?: readonly [string, string];
}

/**
 * Reads a shard's videos in file order, with all their frames: a TFRecord file of YouTube-8M's frame-level format (also gzipped) or a pickle of PaddleVideo. A
 * video without one of the two features has no bytes of it.
 * Throws FILE_MISSING, FILE_UNREADABLE, NOT_TFRECORD, CORRUPT_RECORD, BAD_FORMAT, UNSAFE_PICKLE, and BAD_VIDEO or BAD_LABELS for an invalid video.
 */
export async function* readShard(
  path: string,
  { featureNames = ANY_SHAPE.featureNames }: ReadShardOptions = {},
): AsyncGenerator<Video, void> {
  for await (const { video } of readShardVideos(path, { ...ANY_SHAPE, featureNames })) yield video;
}
