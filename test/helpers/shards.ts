import assert from "node:assert/strict";
import { readFileSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { join, resolve } from "node:path";
import { type ErrorCode, type ErrorDetails, NextvladError } from "../../src/base/errors.js";
import { createRandom } from "../../src/base/random.js";
import { checksumEnds, type Shard, shardAt } from "../../src/data/shard.js";
import { writeShard } from "../../src/data/shard-writer.js";
import type { StreamOptions } from "../../src/data/stream.js";
import type { Video } from "../../src/data/video.js";
import type { ByteSource } from "../../src/formats/containers/byte-source.js";

/** Feature sizes that keep test shards small. */
export const SMALL_SIZES = [6, 3] as const;

/** Returns the path of a file in `test/golden/data`. Tests run from the repository's root. */
export function goldenData(name: string): string {
  return resolve("test/golden/data", name);
}

/** Returns the golden shards' videos, as read by numpy; those of `feat_fortran_short.pkl` are in a separate file. */
export function goldenVideos(expected: "expected.json" | "expected_fortran_short.json" = "expected.json"): Video[] {
  const videos = JSON.parse(readFileSync(goldenData(expected), "utf8")) as Record<"id" | "frames" | "labels" | "rgb" | "audio", never>[];
  return videos.map(({ id, frames, labels, rgb, audio }) => ({
    id,
    frames,
    labels: Int32Array.from(labels),
    rgb: new Uint8Array(Buffer.from(rgb, "base64")),
    audio: new Uint8Array(Buffer.from(audio, "base64")),
  }));
}

/** Returns a video of random bytes, determined by its number: 1 to 9 frames, 0 to 3 labels below 10. */
export function randomVideo(number: number, [rgbSize, audioSize]: readonly [number, number] = SMALL_SIZES): Video {
  const random = createRandom(number, "digits");
  const bytes = (count: number) => Uint8Array.from({ length: count }, () => random.below(256));
  const frames = 1 + random.below(9);
  const labels = new Set(Array.from({ length: random.below(4) }, () => random.below(10)));
  return {
    id: `video${number}`,
    frames,
    rgb: bytes(frames * rgbSize),
    audio: bytes(frames * audioSize),
    labels: Int32Array.from(labels).sort(),
  };
}

/** Writes shards with the given numbers of videos, numbered consecutively; returns their paths and their videos. */
export async function writeShards(folder: string, counts: readonly number[]): Promise<{ shards: string[]; content: Video[][] }> {
  let number = 0;
  const content = counts.map((count) => Array.from({ length: count }, () => randomVideo(number++)));
  const shards = counts.map((_, shard) => join(folder, `shard${String(shard).padStart(3, "0")}.tfrecord`));
  await Promise.all(content.map((videos, shard) => writeShard(shards[shard] as string, videos)));
  return { shards, content };
}

/** Returns the shard at a path, as a list that names it is resolved to. */
export function examined(path: string): Shard {
  try {
    return shardAt(path, statSync(path));
  } catch {
    return shardAt(path, null);
  }
}

/** Returns a shard with the checksum of its ends, as the checks before a run do. */
export async function examinedEnds(path: string): Promise<Shard> {
  const shard = examined(path);
  const handle = await open(path);
  try {
    return { ...shard, endsCrc32c: await checksumEnds(handle, shard.bytes) };
  } finally {
    await handle.close();
  }
}

/** Stream options that a test sets; it may name shards by their paths. */
export type StreamChanges = Partial<Omit<StreamOptions, "shards">> & { readonly shards: readonly (string | Shard)[] };

/** Returns stream options for small test shards, overridden by `options`. */
export function streamOptions({ shards, ...options }: StreamChanges): StreamOptions {
  return {
    shards: shards.map((shard) => (typeof shard === "string" ? examined(shard) : shard)),
    order: "sequential",
    seed: 1,
    epoch: 0,
    batchSize: 5,
    dropLast: false,
    maxFrames: 300,
    featureNames: ["rgb", "audio"],
    featureSizes: SMALL_SIZES,
    numClasses: 10,
    labels: "required",
    shuffleBuffer: 20,
    readers: 2,
    ...options,
  };
}

/** Returns a source of bytes in memory, with at most `pieceBytes` per read. */
export function memorySource(bytes: Uint8Array, pieceBytes = bytes.length): ByteSource {
  let position = 0;
  return {
    get filePosition() {
      return position;
    },
    isExact: true,
    read(target) {
      const piece = bytes.subarray(position, position + Math.min(pieceBytes, target.length));
      target.set(piece);
      position += piece.length;
      return Promise.resolve(piece.length);
    },
    skip(bytes) {
      position += bytes;
      return Promise.resolve();
    },
    close: () => Promise.resolve(),
  };
}

/** Collects all items of an iteration; `map` copies what is only valid until the next one. */
export async function collect<T, R = T>(items: AsyncIterable<T>, map: (item: T) => R = (item) => item as unknown as R): Promise<R[]> {
  const collected: R[] = [];
  for await (const item of items) collected.push(map(item));
  return collected;
}

/** Checks that a promise rejects with the code and at least these details; returns the error. */
export async function failsWith(promise: Promise<unknown>, code: ErrorCode, details: ErrorDetails = {}): Promise<NextvladError> {
  const error = await promise.then(
    () => assert.fail(`expected ${code}, and nothing was thrown`),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof NextvladError, `expected ${code}, not ${error}`);
  assert.equal(error.code, code, error.message);
  for (const [key, value] of Object.entries(details))
    assert.equal(error.details[key as keyof ErrorDetails], value, `${key} in: ${error.message}`);
  return error;
}
