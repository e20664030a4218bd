import { encodeBytes } from "../base/byte-text.js";
import { writeFileAtomic } from "../base/files.js";
import { encodeTfRecord } from "../formats/containers/tfrecord.js";
import { encodeSequenceExample } from "../formats/protobuf/sequence-example.js";
import type { Video } from "./video.js";

/**
 * Writes videos as a shard in YouTube-8M's frame-level format, one at a time, so that memory use does not depend on their number. The file is written
 * atomically. Throws FILE_UNWRITABLE.
 */
export async function writeShard(path: string, videos: Iterable<Video> | AsyncIterable<Video>): Promise<void> {
  await writeFileAtomic(path, encodeVideos(videos));
}

async function* encodeVideos(videos: Iterable<Video> | AsyncIterable<Video>): AsyncGenerator<Uint8Array, void> {
  for await (const video of videos) yield encodeTfRecord(encodeVideo(video));
}

/**
 * Encodes a video as a tf.train.SequenceExample with context features `id` and `labels`, and feature lists `rgb` and `audio`, of which empty ones are omitted.
 */
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
