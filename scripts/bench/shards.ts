import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../../src/base/files.js";
import { createRandom, type Random } from "../../src/base/random.js";
import { writeShard } from "../../src/data/shard-writer.js";
import type { Video } from "../../src/data/video.js";

/** Options of `makeShards`. */
export interface ShardSettings {
  readonly directory: string;
  readonly videos: number;
  readonly perShard: number;
  /** Minimum and maximum number of frames per video. */
  readonly frames: readonly [number, number];
  /** Features (bytes) per frame of each modality; 0 for none. */
  readonly features: { readonly rgb: number; readonly audio: number };
  readonly classes: number;
  readonly seed: number;
}

/** Makes a video whose frames are a slice of one block of random bytes: equivalent to fresh bytes for timing, and much faster to generate. */
function makeVideo(name: string, random: Random, noise: Uint8Array, { frames, features, classes }: ShardSettings): Video {
  const count = frames[0] + random.below(frames[1] - frames[0] + 1);
  const stretch = (bytes: number): Uint8Array => {
    const start = random.below(noise.length - bytes + 1);
    return noise.subarray(start, start + bytes);
  };
  const labels = new Set(Array.from({ length: 1 + random.below(5) }, () => random.below(classes)));
  const [rgb, audio] = [stretch(count * features.rgb), stretch(count * features.audio)];
  return { id: name, frames: count, rgb, audio, labels: Int32Array.from(labels).sort() };
}

/** Writes shards of random videos and a list of them, `shards.list`. Returns the list's path. */
export async function makeShards(settings: ShardSettings): Promise<string> {
  const { directory, videos, perShard, features, seed } = settings;
  await mkdir(directory, { recursive: true });
  const random = createRandom(seed, "digits");
  const noise = Uint8Array.from({ length: settings.frames[1] * Math.max(features.rgb, features.audio) * 4 }, () => random.below(256));
  const names: string[] = [];
  for (let first = 0; first < videos; first += perShard) {
    const name = `random${String(names.length).padStart(4, "0")}.tfrecord`;
    const count = Math.min(perShard, videos - first);
    const batch = (function* () {
      for (let video = first; video < first + count; video++) yield makeVideo(`v${video}`, random, noise, settings);
    })();
    await writeShard(join(directory, name), batch);
    names.push(name);
  }
  const list = join(directory, "shards.list");
  await writeFileAtomic(list, names.map((name) => `${name}\n`).join(""));
  return list;
}
