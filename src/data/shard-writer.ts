import { encodeBytes } from "../base/byte-text.js";
import { writeFileAtomic } from "../base/files.js";
import { encodeTfRecord } from "../formats/containers/tfrecord.js";
import { pickleArray } from "../formats/pickle/numpy.js";
import { encodePickledList } from "../formats/pickle/pickler.js";
import { ByteString, type Picklable } from "../formats/pickle/values.js";
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

/**
 * Writes videos as tf2pkl.py (PaddleVideo v1.5.1) does: a pickled list (protocol 2) of one dict per video, with Python 2 strings as keys and ID. PaddleVideo's
 * reader accepts it under Python 2 and, with its `encoding="bytes"`, under Python 3. As in tf2pkl.py, the arrays hold all frames, and `nframes` is at most
 * `maxFrames`. A modality that a video does not have is written as an array `[frames, 0]`.
 * The file is written atomically. Throws FILE_UNWRITABLE.
 */
export async function writePickleShard(path: string, videos: Iterable<Video> | AsyncIterable<Video>, maxFrames: number): Promise<void> {
  await writeFileAtomic(path, encodePickledList(asDicts(videos, maxFrames)));
}

async function* asDicts(videos: Iterable<Video> | AsyncIterable<Video>, maxFrames: number): AsyncGenerator<Picklable, void> {
  for await (const { id, frames, rgb, audio, labels } of videos) {
    yield new Map<Picklable, Picklable>([
      [new ByteString("video"), new ByteString(encodeBytes(id))],
      [new ByteString("feature"), pickleArray("u1", [frames, rgb.length / frames], rgb)],
      [new ByteString("audio"), pickleArray("u1", [frames, audio.length / frames], audio)],
      [new ByteString("label"), labels],
      [new ByteString("nframes"), BigInt(Math.min(frames, maxFrames))],
    ]);
  }
}
