import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { buildConfig, loadConfig } from "../../src/config/load.js";
import { bytesPerVideo, chooseBatchSize } from "../../src/inference/infer.js";
import { repository } from "../helpers/nextvlad.js";

const { MODEL } = await loadConfig(join(repository, "configs/nextvlad.yaml"));

test("the default batch size is 32, or less if 32 videos would take more than half of the memory", () => {
  const video = bytesPerVideo(MODEL);
  // One rgb frame: 1,024 features, 2 x 1,024 cluster logits, 2,048 of the expansion, in float32; 1,152 bytes in each of 5 batches.
  assert.equal(video, 300 * (4 * (1024 + 2 * 1024 + 2048) + 5 * 1152));
  assert.equal(chooseBatchSize(MODEL, 64 * video), 32);
  assert.equal(chooseBatchSize(MODEL, 1e12), 32);
  assert.equal(chooseBatchSize(MODEL, 64 * video - 1), 31);
  assert.equal(chooseBatchSize(MODEL, 10 * video), 5);
  assert.equal(chooseBatchSize(MODEL, 0), 1);
});

test("the memory of a video depends on max_frames and the feature sizes", () => {
  const { MODEL: long } = buildConfig({ MODEL: { max_frames: 3000 } }, "own.yaml");
  assert.equal(bytesPerVideo(long), 10 * bytesPerVideo(MODEL));
  const { MODEL: narrow } = buildConfig({ MODEL: { video_feature_size: 0 } }, "own.yaml");
  assert.ok(bytesPerVideo(narrow) < bytesPerVideo(MODEL));
});

test("segments have 5 frames, and their default batch size as many frames as 32 videos", () => {
  const segments = { ...MODEL, segments: true };
  assert.equal(bytesPerVideo(segments), bytesPerVideo(MODEL) / 60);
  assert.equal(chooseBatchSize(segments, 1e12), 1920);
  assert.equal(chooseBatchSize(segments, 10 * bytesPerVideo(segments)), 5);
});
