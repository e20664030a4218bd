import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createRandom } from "../../src/base/random.js";
import { writeShard } from "../../src/data/shard-writer.js";
import type { Video } from "../../src/data/video.js";

/** Sizes of the test model, small enough to train in a second. */
export const CLASSES = 6;
const SIZES = [16, 8] as const;

/** Returns a labeled video whose bytes correlate with its labels, so that a model can learn them. */
export function learnableVideo(number: number): Video {
  const random = createRandom(number, "digits");
  const frames = 2 + random.below(7);
  const labels = [...new Set([random.below(CLASSES), random.below(CLASSES)])].sort((a, b) => a - b);
  const bytes = (size: number): Uint8Array =>
    Uint8Array.from({ length: frames * size }, (_, i) => Math.min(255, random.below(120) + (labels.includes(i % size) ? 130 : 0)));
  return { id: `video${number}`, frames, rgb: bytes(SIZES[0]), audio: bytes(SIZES[1]), labels: Int32Array.from(labels) };
}

/** Writes shards, lists and a config for a small run into `folder`; returns the config's path. */
export async function prepareRun(folder: string, { trainVideos = 100, validateVideos = 40 } = {}): Promise<string> {
  let number = 0;
  for (const [split, videos] of [
    ["train", trainVideos],
    ["validate", validateVideos],
  ] as const) {
    const half = Math.ceil(videos / 2);
    for (const [shard, count] of [half, videos - half].entries()) {
      await writeShard(
        join(folder, `${split}${shard}.tfrecord`),
        Array.from({ length: count }, () => learnableVideo(number++)),
      );
    }
    writeFileSync(join(folder, `${split}.list`), `# ${split}\n${split}0.tfrecord\n${split}1.tfrecord\n`);
  }
  const list = (split: string): string => join(folder, `${split}.list`);
  const config = {
    MODEL: {
      num_classes: CLASSES,
      video_feature_size: SIZES[0],
      audio_feature_size: SIZES[1],
      cluster_size: 4,
      hidden_size: 16,
      groups: 4,
      expansion: 2,
      gating_reduction: 4,
    },
    TRAIN: { epoch: 2, batch_size: 16, learning_rate: 0.01, filelist: list("train"), use_gpu: false, shuffle_buffer: 32 },
    VALID: { batch_size: 16, filelist: list("validate") },
    TEST: { batch_size: 16, filelist: list("validate"), use_gpu: false },
    INFER: { batch_size: 16, filelist: list("validate"), use_gpu: false },
  };
  const path = join(folder, "config.yaml");
  writeFileSync(path, JSON.stringify(config));
  return path;
}

/** Returns the entries of a run's JSON log, one per line. */
export function readLog(saveDir: string, name = "train.log.jsonl"): Record<string, unknown>[] {
  const lines = readFileSync(join(saveDir, name), "utf8").trim().split("\n");
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}
