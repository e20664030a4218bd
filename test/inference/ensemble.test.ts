import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { buildConfig } from "../../src/config/load.js";
import { writeShard } from "../../src/data/shard-writer.js";
import { Averager, ensemble } from "../../src/inference/ensemble.js";
import { GroundTruth, type Truth } from "../../src/inference/ground-truth.js";
import { SkippedRecordReport } from "../../src/passes/skipped-records.js";
import { createTelemetry } from "../../src/telemetry/telemetry.js";
import { corruptData } from "../helpers/corrupt.js";
import { examined } from "../helpers/shards.js";

const folder = mkdtempSync(join(tmpdir(), "ensemble-"));
after(() => rmSync(folder, { recursive: true, force: true }));

async function run(contents: readonly [string, ...string[]], signal: AbortSignal, truth: Truth | null = null) {
  const files = contents.map((content, i) => {
    const file = join(folder, `${"abc"[i]}.csv`);
    writeFileSync(file, `VideoId,LabelConfidencePairs\n${content}`);
    return file;
  }) as [string, ...string[]];
  const target = { path: join(folder, "out"), formats: ["pickle", "csv"], names: null } as const;
  const telemetry = await createTelemetry({ logFile: null });
  const skipped = new SkippedRecordReport(folder, "ensemble", telemetry.log);
  return ensemble({ files, weights: files.map(() => 1), topk: 20, target, truth, signal, telemetry, skipped });
}

test("a signal stops it within a few hundred videos, and it leaves no files", async () => {
  const controller = new AbortController();
  const lines = Array.from({ length: 5000 }, (_, i) => `v${i},1 0.5\n`).join("");
  setImmediate(() => controller.abort());
  const { stopped, videos, resultFiles, metrics } = await run([lines, lines], controller.signal);
  assert.deepEqual([stopped, resultFiles, metrics], [true, [], null]);
  assert.ok(videos < 1000, `stopped after ${videos} videos`);
  assert.deepEqual(readdirSync(folder), ["a.csv", "b.csv"]);
});

test("results without videos are an error", async () => {
  await assert.rejects(run([""], new AbortController().signal), {
    code: "TOO_FEW_VIDEOS",
    message: /a\.csv: the results contain no videos/,
  });
  assert.deepEqual(readdirSync(folder), ["a.csv", "b.csv"]);
});

test("MAP is over MODEL.num_classes, or over the classes that a file lists for each video; otherwise the number of classes is an error", async () => {
  const shard = join(folder, "labels.tfrecord");
  const video = (id: string, label: number) => ({
    id,
    frames: 1,
    rgb: new Uint8Array(2),
    audio: new Uint8Array(1),
    labels: Int32Array.of(label),
  });
  await writeShard(shard, [video("v0", 0), video("v1", 1)]);
  const config = buildConfig({ MODEL: { video_feature_size: 2, audio_feature_size: 1, groups: 1 } }, "sizes");
  const mapOf = async (contents: readonly [string, ...string[]], numClasses: number | null = null) => {
    const { metrics } = await run(contents, new AbortController().signal, {
      filelist: shard,
      shards: [examined(shard)],
      config,
      numClasses,
    });
    return [metrics?.map, metrics?.aps.length];
  };
  const whole = "v0,0 0.9 1 0.1 2 0.5\nv1,1 0.9 2 0.2 0 0.1\n";
  const top = "v0,0 0.9\nv1,1 0.9\n";
  assert.deepEqual(await mapOf([whole]), [2 / 3, 3]);
  assert.deepEqual(await mapOf([top, whole]), [2 / 3, 3]);
  assert.deepEqual(await mapOf([top], 8), [2 / 8, 8]);
  const cases: readonly [string, RegExp][] = [
    [
      top,
      /video v1, MODEL\.num_classes: the results do not list all classes, so .* is unknown \(expected predictions for classes 0 to 1, found 1 predictions\)/,
    ],
    ["v0,0 0.9 3 0.1\nv1,1 0.5\n", /video v0, .*\(expected predictions for classes 0 to 3, found 2 predictions\)\. Set the number \(--set/],
    ["v0,0 0.9\nv1,0 0.9\n", /video v1, .*\(expected predictions for classes 0 to 1, found 1 predictions\)/],
    ["v0,0 0.9 1 0.1\nv1,0 0.5\n", /video v1, .*\(expected predictions for classes 0 to 1, found 1 predictions\)/],
  ];
  for (const [content, message] of cases) await assert.rejects(mapOf([content]), { code: "BAD_RESULTS", message });
});

test("infers the number of classes from any number of results with all classes", async () => {
  const shard = join(folder, "many.tfrecord");
  await writeShard(shard, [{ id: "v0", frames: 1, rgb: new Uint8Array(2), audio: new Uint8Array(1), labels: Int32Array.of(3) }]);
  const config = buildConfig({ MODEL: { video_feature_size: 2, audio_feature_size: 1, groups: 1 } }, "sizes");
  const telemetry = await createTelemetry({ logFile: null });
  const truth = { filelist: shard, shards: [examined(shard)], config, numClasses: null };
  const groundTruth = GroundTruth.open(truth, new SkippedRecordReport(folder, "ensemble", telemetry.log), telemetry);
  try {
    const classes = Int32Array.from({ length: 3862 }, (_, i) => i);
    const results = Array.from({ length: 200 }, () => ({ classes }));
    groundTruth.add("v0", { classes, scores: new Float32Array(3862) }, results, Int32Array.of(3));
    assert.equal(groundTruth.metrics()?.aps.length, 3862);
  } finally {
    await groundTruth.close();
  }
});

test("a corrupt record in the labeled shards is an error that says how to skip it", async () => {
  const shard = join(folder, "corrupt.tfrecord");
  const video = (id: string) => ({ id, frames: 1, rgb: new Uint8Array(2), audio: new Uint8Array(1), labels: Int32Array.of(1) });
  await writeShard(shard, ["v0", "v1"].map(video));
  corruptData(shard, 1);
  const config = buildConfig({ MODEL: { video_feature_size: 2, audio_feature_size: 1, groups: 1 } }, "sizes");
  const truth = { filelist: shard, shards: [examined(shard)], config, numClasses: 2 };
  const message = /corrupt\.tfrecord, record 1, .*; or skip corrupt records with --set TEST\.on_corrupt=skip-record\.$/;
  await assert.rejects(run(["v0,1 0.9\nv1,1 0.9\n"], new AbortController().signal, truth), { code: "CORRUPT_RECORD", message });
});

test("labeled shards without any label are an error", async () => {
  const shard = join(folder, "unlabelled.tfrecord");
  await writeShard(shard, [{ id: "v0", frames: 1, rgb: new Uint8Array(2), audio: new Uint8Array(1), labels: new Int32Array() }]);
  const config = buildConfig({ MODEL: { video_feature_size: 2, audio_feature_size: 1, groups: 1 } }, "sizes");
  const truth = { filelist: shard, shards: [examined(shard)], config, numClasses: 2 };
  const message = /unlabelled\.tfrecord: cannot compute metrics: none of the 1 videos has a label/;
  await assert.rejects(run(["v0,0 0.9\n"], new AbortController().signal, truth), { code: "BAD_LABELS", message });
});

const prediction = (pairs: Record<number, number>) => ({
  scores: Float32Array.from(Object.values(pairs)),
  classes: Int32Array.from(Object.keys(pairs), Number),
});

test("a class that a prediction lacks counts as 0; equal averages rank by class, lower first", () => {
  const averager = new Averager([1, 1]);
  const { scores, classes } = averager.average([prediction({ 7: 0.5, 3: 0.25 }), prediction({ 9: 0.5, 3: 0.5, 1: 0.125 })]);
  assert.deepEqual([...classes], [3, 7, 9, 1]);
  assert.deepEqual([...scores], [0.375, 0.25, 0.25, 0.0625]);
  assert.deepEqual([...averager.average([prediction({}), prediction({})]).classes], []);
});

test("weights count by their share of the sum; the average of equal predictions is the same", () => {
  const same = prediction({ 5: 0.1, 2: 1e-30 });
  const { scores } = new Averager([3, 0, 7]).average([same, prediction({ 5: 1 }), same]);
  assert.deepEqual(scores, Float32Array.of(0.1, 1e-30));
  const quarter = new Averager([30, 10]).average([prediction({ 1: 1 }), prediction({ 2: 1 })]);
  assert.deepEqual(
    [[...quarter.classes], [...quarter.scores]],
    [
      [1, 2],
      [0.75, 0.25],
    ],
  );
});

test("weights at the limits of float64 count by their share too", () => {
  const [a, b] = [prediction({ 1: 0.75 }), prediction({ 1: 0.25 })];
  for (const [weights, expected] of [
    [[1e308, 1e308], 0.5],
    [[Number.MAX_VALUE, Number.MAX_VALUE / 3], 0.625],
    [[1e-320, 1e-320], 0.5],
    [[1.5e-323, 5e-324], 0.625],
    [[1e308, 1e-320], 0.75],
  ] as const) {
    const { scores } = new Averager(weights).average([a, b]);
    assert.deepEqual([...scores], [expected], String(weights));
  }
});
