import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../src/base/errors.js";
import { assertArraysMatch } from "../../src/checkpoints/arrays.js";
import { inferModel, modelOf } from "../../src/checkpoints/model-arrays.js";
import type { WeightSource } from "../../src/checkpoints/weight-source.js";
import { parameterTable } from "../../src/model/network.js";
import { type ModelSection, modelSizes } from "../../src/model/sizes.js";

function source(shapes: ReadonlyMap<string, readonly number[]>): WeightSource {
  return {
    path: "x",
    form: "a test",
    snapshot: null,
    entries: new Map([...shapes].map(([name, shape]) => [name, { dtype: "f4", shape }])),
    read: () => {
      throw new Error("nothing is read");
    },
    close: () => Promise.resolve(),
  };
}

const shapesOf = (model: ModelSection) => new Map(parameterTable(modelSizes(model)).map(({ name, shape }) => [name, shape]));

const PUBLISHED: ModelSection = {
  name: "NEXTVLAD",
  num_classes: 3862,
  cluster_size: 128,
  groups: 8,
  expansion: 2,
  hidden_size: 2048,
  gating_reduction: 8,
  num_mixtures: 1,
  video_feature_size: 1024,
  audio_feature_size: 128,
};

test("the sizes of the published recipe are inferred from its shapes", () =>
  assert.deepEqual(inferModel(source(shapesOf(PUBLISHED))), PUBLISHED));

test("any sizes are inferred, also with a single modality", () => {
  const small = fc.integer({ min: 1, max: 9 });
  const models = fc
    .record({
      classes: small,
      clusters: small,
      groups: small,
      expansion: small,
      bottleneck: small,
      reduction: small,
      mixtures: small,
      name: fc.constantFrom("NEXTVLAD", "MIX_NEXTVLAD"),
      video: small,
      audio: small,
      modalities: fc.constantFrom("both", "video", "audio"),
    })
    .map(
      ({ classes, clusters, groups, expansion, bottleneck, reduction, mixtures, name, video, audio, modalities }): ModelSection => ({
        name,
        num_classes: classes,
        cluster_size: clusters,
        groups,
        expansion,
        hidden_size: bottleneck * reduction,
        gating_reduction: reduction,
        num_mixtures: mixtures,
        video_feature_size: modalities === "audio" ? 0 : groups * video,
        audio_feature_size: modalities === "video" ? 0 : groups * audio,
      }),
    );
  fc.assert(fc.property(models, (model) => assert.deepEqual(inferModel(source(shapesOf(model))), model)));
});

test("reports all problems at once", () => {
  const failure = (change: (shapes: Map<string, readonly number[]>) => void): string => {
    const shapes = shapesOf(PUBLISHED);
    change(shapes);
    try {
      inferModel(source(shapes));
    } catch (error) {
      assert.ok(error instanceof NextvladError && error.code === "BAD_WEIGHTS", String(error));
      return error.message;
    }
    return assert.fail("no error");
  };
  const missing = failure((shapes) => {
    shapes.delete("logits_clf_bias");
    shapes.set("hidden1_fc_weights", [2048]);
    shapes.delete("audio_cluster_weights2");
  });
  assert.match(
    missing,
    /audio_cluster_weights2 is missing; hidden1_fc_weights is \[2048\], expected 2 dimensions; logits_clf_bias is missing/,
  );
  assert.match(
    failure((shapes) => shapes.set("audio_fc_group_attention_w", [256, 4])),
    /groups is 8 for rgb and 4 for audio/,
  );
  assert.match(
    failure((shapes) => shapes.set("gating_fc1_weights", [2048, 300])),
    /gating_reduction is 6\.8/,
  );
  assert.match(
    failure((shapes) => shapes.clear()),
    /found no arrays of an aggregator/,
  );
});

test("NetVLAD's name and sizes are inferred, and no other model's", () => {
  const netvlad: ModelSection = { ...PUBLISHED, name: "NETVLAD", groups: 1, expansion: 1 };
  for (const section of [netvlad, { ...netvlad, video_feature_size: 0 }, { ...netvlad, audio_feature_size: 0 }]) {
    assert.deepEqual(inferModel(source(shapesOf(section))), section);
  }
  assert.equal(modelOf(shapesOf(PUBLISHED).keys()), "NEXTVLAD");
  assert.equal(modelOf(shapesOf({ ...PUBLISHED, audio_feature_size: 0 }).keys()), "NEXTVLAD");
  assert.equal(modelOf(["conv.weight", "logits_clf_bias"]), null);
});

test("weights of another model are an error that names both models, in both directions", () => {
  const netvlad: ModelSection = { ...PUBLISHED, name: "NETVLAD", groups: 1, expansion: 1 };
  const mixture: ModelSection = { ...PUBLISHED, name: "MIX_NEXTVLAD" };
  for (const [section, other] of [
    [PUBLISHED, mixture],
    [mixture, PUBLISHED],
    [mixture, netvlad],
    [PUBLISHED, netvlad],
    [netvlad, PUBLISHED],
  ] as const) {
    const weights = source(shapesOf(section));
    assertArraysMatch(weights, parameterTable(modelSizes(section)), "remedy");
    assert.throws(
      () => assertArraysMatch(weights, parameterTable(modelSizes(other)), "remedy"),
      (error) =>
        error instanceof NextvladError &&
        error.code === "BAD_WEIGHTS" &&
        error.details.expected === other.name &&
        error.details.found === section.name,
    );
  }
});
