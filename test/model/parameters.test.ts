import assert from "node:assert/strict";
import { test } from "node:test";
import { parameterTable } from "../../src/model/network.js";
import { countParameters } from "../../src/model/parameters.js";
import { modelSizes } from "../../src/model/sizes.js";
import { loadGolden } from "../helpers/golden.js";

const published = modelSizes({
  name: "NEXTVLAD",
  num_classes: 3862,
  cluster_size: 128,
  hidden_size: 2048,
  groups: 8,
  expansion: 2,
  gating_reduction: 8,
  num_mixtures: 1,
  video_feature_size: 1024,
  audio_feature_size: 128,
});

test("the published model has 42 arrays of 89,088,550 trained values, 89,172,006 in all", () => {
  const table = parameterTable(published);
  assert.equal(table.length, 42);
  assert.equal(table.filter(({ trained }) => trained).length, 29);
  assert.deepEqual(countParameters(table), { all: 89_172_006, trained: 89_088_550 });
});

const golden = loadGolden("small");

test("names, shapes and order equal those of Paddle's own files", () => {
  assert.deepEqual(
    parameterTable(golden.sizes).map(({ name, shape }) => [name, shape]),
    [...golden.weights].map(([name, { shape }]) => [name, shape]),
  );
});

test("L2 decay applies to the parameters that PaddleVideo gave a regularizer: the classifier's weights and bias", () => {
  const decayed = parameterTable(golden.sizes).flatMap(({ name, decayed }) => (decayed ? [name] : []));
  assert.deepEqual(decayed, golden.decayed);
});

test("a modality without features has no parameters", () => {
  const names = parameterTable({ ...published, audioFeatures: 0 }).map(({ name }) => name);
  assert.ok(names.includes("video_cluster_weights"));
  assert.ok(!names.some((name) => name.startsWith("audio") || /batch_norm_[23]/.test(name)));
});
