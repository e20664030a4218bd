import { encodeBytes } from "../base/byte-text.js";
import { writeFileAtomic } from "../base/files.js";
import { encodeSequenceExample } from "../formats/sequence-example-encoder.js";
import { encodeTfRecord } from "../formats/tfrecord.js";
import type { Video } from "./video.js";

/**
 * Writes videos as a shard in YouTube-8M's frame-level format, one at a time, so that any number fits in memory; the file is there whole or not at all.
 * Throws FILE_UNWRITABLE.
 */
export async function writeShard(path: string, videos: Iterable<Video> | AsyncIterable<Video>): Promise<void> {
  await writeFileAtomic(path, encodeVideos(videos));
}

async function* encodeVideos(videos: Iterable<Video> | AsyncIterable<Video>): AsyncGenerator<Uint8Array, void> {
  for await (const video of videos) yield encodeTfRecord(encodeVideo(video));
}

/** One video as a tf.train.SequenceExample with context `id` and `labels` and feature lists `rgb` and `audio`, or the one of them that it has. */
export function encodeVideo({ id, frames, rgb, audio, labels }: Video): Uint8Array {
  const frameLists = [
    { name: "rgb", frameBytes: rgb.length / frames, data: rgb },
    { name: "audio", frameBytes: audio.length / frames, data: audio },
  ];
  return encodeSequenceExample({
    context: { id: encodeBytes(id), labels },
    frameLists: frameLists.filter(({ frameBytes }) => frameBytes > 0),
  });
}
