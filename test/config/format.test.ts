import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { formatConfig } from "../../src/config/format.js";
import { describeKeys } from "../../src/config/keys.js";
import { buildConfig, loadConfig } from "../../src/config/load.js";
import type { Config } from "../../src/config/schema.js";
import { scratch } from "../commands/nextvlad.js";

const size = fc.integer({ min: 1, max: 5000 });
const path = fc.string({ minLength: 1, maxLength: 40, unit: "grapheme" });
const above0 = fc.double({ min: 2 ** -126, max: 1e9, noNaN: true });
const device = fc.constantFrom(true, false, "auto");
const policy = fc.constantFrom("error", "skip-record", "skip-shard");
const reading = { batch_size: size, filelist: path, num_readers: fc.integer({ min: 1, max: 64 }) };

/** Configs whose parts fit together: groups, reduction and boundary are made to. */
const configs: fc.Arbitrary<Config> = fc
  .record({
    MODEL: fc.record({
      num_classes: size,
      topk: size,
      video_feature_size: size.map((value) => value * 8),
      audio_feature_size: size.map((value) => value * 8),
      feature_names: fc.tuple(path, path).filter(([first, second]) => first !== second),
      max_frames: size,
      cluster_size: size,
      hidden_size: size.map((value) => value * 8),
      groups: fc.constantFrom(1, 2, 4, 8),
      drop_rate: fc.double({ min: 0, max: 0.999, noNaN: true }),
      eigen_file: fc.oneof(
        fc.constant(null),
        path.filter((text) => !/^\s*(none|null|~)\s*$/i.test(text)),
      ),
    }),
    TRAIN: fc.record({
      ...reading,
      epoch: size,
      learning_rate: above0,
      lr_boundary_examples: size.map((value) => value + 5000),
      learning_rate_decay: above0,
      l2_penalty: above0,
      gradient_clip: fc.option(above0),
      gradient_clip_norm: fc.option(above0),
      use_gpu: device,
      on_corrupt: policy,
      seed: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    }),
    VALID: fc.record(reading),
    TEST: fc.record({ ...reading, use_gpu: device, on_corrupt: policy }),
    INFER: fc.record({ ...reading, use_gpu: device }),
  })
  .map((value) => buildConfig(value, "own.yaml"));

test("a formatted config, read again, is the same config", async (context) => {
  const file = join(scratch(context), "config.yaml");
  await fc.assert(
    fc.asyncProperty(configs, async (config) => {
      writeFileSync(file, formatConfig(config));
      assert.deepEqual(await loadConfig(file), config);
    }),
    { numRuns: 100 },
  );
});

test("every key stands under what it is for", () => {
  const lines = formatConfig(buildConfig({ MODEL: null }, "own.yaml")).split("\n");
  for (const { name, help } of describeKeys()) {
    assert.ok(
      lines.some((line, i) => line === `  # ${help}` && lines[i + 1]?.startsWith(`  ${name}:`)),
      name,
    );
  }
});
