import assert from "node:assert/strict";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { countArithmetic, countStep } from "../../scripts/bench/arithmetic.js";
import { prepareFromShards } from "../../scripts/bench/from-shards.js";
import type { NetworkTask } from "../../scripts/bench/measure.js";
import { runTask } from "../../scripts/bench/run-task.js";
import { makeShards } from "../../scripts/bench/shards.js";
import { loadConfig } from "../../src/config/load.js";
import { modelSizes } from "../../src/model/sizes.js";
import { temporaryFolder } from "../helpers/files.js";

const { signal } = new AbortController();

/** Writes the config of a small model of audio only, whose data set names its features otherwise. */
function writeConfig(folder: string): string {
  const file = join(folder, "small.yaml");
  const model = { num_classes: 5, video_feature_size: 0, audio_feature_size: 8, cluster_size: 4, hidden_size: 16, groups: 4 };
  writeFileSync(file, JSON.stringify({ MODEL: { ...model, feature_names: ["rgb", "audio_embedding"], max_frames: 20 } }));
  return file;
}

const memory = { batch: 4, frames: 10, steps: 1, precision: "float32", isa: null, use_gpu: false } as const;

describe("the whole process on shards", { concurrency: 2 }, () => {
  for (const [mode, videos] of [
    ["train", 8],
    ["infer", 11],
  ] as const) {
    test(`of ${mode} computes ${videos} of 11 videos, of the config's sizes`, async (t) => {
      const folder = temporaryFolder(t);
      const file = writeConfig(folder);
      const prepared = await prepareFromShards({ mode, config: file, ...memory }, await loadConfig(file), 11, folder, signal);
      const timing = await prepared.run();
      assert.deepEqual([prepared.videos, timing.videos], [videos, videos]);
      assert.ok(timing.first_batch_seconds > 0 && timing.first_batch_seconds < timing.seconds, JSON.stringify(timing));
      assert.ok(timing.rest_rate > 0 && timing.wait_share >= 0 && timing.wait_share <= 1, JSON.stringify(timing));
      // Only the shards and the weights are left.
      assert.deepEqual(readdirSync(folder).sort(), ["shards", "small.yaml", ...(mode === "infer" ? ["weights"] : [])]);
    });
  }

  test("is refused if the videos are too long, or fewer than a batch", async (t) => {
    const folder = temporaryFolder(t);
    const file = writeConfig(folder);
    const task: NetworkTask = { mode: "infer", config: file, ...memory };
    const config = await loadConfig(file);
    const prepare = (change: Partial<NetworkTask>, videos: number) =>
      prepareFromShards({ ...task, ...change }, config, videos, folder, signal);
    await assert.rejects(prepare({ frames: 21 }, 8), { code: "BAD_USAGE", message: /^--frames: / });
    await assert.rejects(prepare({ frames: "yt8m" }, 8), { code: "BAD_USAGE", message: /^--frames: / });
    await assert.rejects(prepare({}, 3), { code: "BAD_USAGE", message: /^--videos: / });
    assert.deepEqual(readdirSync(folder), ["small.yaml"]);
  });
});

describe("a task", { concurrency: 2 }, () => {
  test("of the network has the sizes of its config", async (t) => {
    const file = writeConfig(temporaryFolder(t));
    const task = { mode: "infer", config: file, ...memory } as const;
    const found = await runTask(task, signal);
    const { MODEL } = await loadConfig(file);
    const expected = countStep(countArithmetic(modelSizes(MODEL), "infer"), new Int32Array(4).fill(10)) / 1e9;
    assert.deepEqual([found.task, found.network?.gflop_per_step], [task, expected]);
  });

  test("of reading uses its number of threads", async (t) => {
    const directory = temporaryFolder(t);
    const features = { rgb: 1024, audio: 128 };
    await makeShards({ directory, videos: 6, perShard: 2, frames: [3, 5], features, classes: 3862, seed: 1 });
    const task = { mode: "read", directory, batch: 4, readers: 3 } as const;
    const found = await runTask(task, signal);
    assert.deepEqual(found.task, task);
    assert.ok(found.rate > 0 && found.seconds.length > 0);
  });
});
