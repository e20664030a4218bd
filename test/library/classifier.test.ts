import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type Classifier, evaluate, loadClassifier, type Prediction, readShard, type VideoFeatures } from "../../src/index.js";
import { runNextvlad } from "../helpers/nextvlad.js";
import { CLASSES, learnableVideo, prepareRun } from "../helpers/runs.js";

const NAMES = ["zero", "one", "two", "three", "four", "five"];
const VIDEOS = 40;

let folder: string;
const at = (name: string): string => join(folder, name);
let classifier: Classifier;

async function run(...args: string[]): Promise<void> {
  const { exitCode, stderr } = await runNextvlad(args);
  assert.equal(exitCode, 0, stderr);
}

async function* validationVideos() {
  for (const shard of [0, 1]) yield* readShard(at(`validate${shard}.tfrecord`));
}

async function gather<T>(values: AsyncIterable<T>): Promise<T[]> {
  const gathered: T[] = [];
  for await (const value of values) gathered.push(value);
  return gathered;
}

async function classifyOne(video: VideoFeatures): Promise<Prediction> {
  const [prediction] = await gather(classifier.classify([video]));
  assert.ok(prediction);
  return prediction;
}

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "nextvlad-library-"));
  const config = await prepareRun(folder, { trainVideos: 64, validateVideos: VIDEOS });
  writeFileSync(at("names.txt"), `${NAMES.join("\n")}\n`);
  await run("train", "--config", config, "--save-dir", at("run"), "--set", "MODEL.max_frames=6");
  classifier = await loadClassifier(at("run/best"), { useGpu: false, labels: at("names.txt") });
});
after(() => {
  classifier.dispose();
  rmSync(folder, { recursive: true, force: true });
});

describe("a classifier", () => {
  test("describes the model", () => {
    const { numClasses, classNames, featureSizes, maxFrames } = classifier;
    assert.deepEqual([numClasses, classNames, featureSizes, maxFrames], [CLASSES, NAMES, { rgb: 16, audio: 8 }, 6]);
  });

  test("computes what infer and eval write", async () => {
    const weights = ["--weights", at("run/best"), "--save-dir", at("results")];
    await run("infer", ...weights, "--format", "jsonl", "--labels", at("names.txt"), "--infer-topk", "3");
    await run("eval", ...weights);
    const lines = readFileSync(at("results/NEXTVLAD_infer_result.jsonl"), "utf8").trim().split("\n");
    const written = lines.map((line) => JSON.parse(line) as { id: string; predictions: Prediction["top"] });

    const predictions = await gather(classifier.classify(validationVideos(), { topk: 3 }));
    assert.equal(predictions.length, VIDEOS);
    for (const [i, { id, top, probabilities, labels }] of predictions.entries()) {
      assert.equal(id, written[i]?.id);
      assert.deepEqual(labels, learnableVideo(64 + i).labels);
      assert.deepEqual(
        top.map((each) => [each.class, each.name]),
        written[i]?.predictions.map((each) => [each.class, NAMES[each.class]]),
      );
      // The batches differ, so float32 sums are rounded differently.
      for (const [rank, { probability }] of top.entries())
        assert.ok(Math.abs(probability - (written[i]?.predictions[rank]?.probability ?? Number.NaN)) < 1e-5);
      assert.deepEqual(
        Array.from(probabilities)
          .sort((a, b) => b - a)
          .slice(0, 3),
        top.map(({ probability }) => probability),
      );
    }

    const expected = JSON.parse(readFileSync(at("results/NEXTVLAD_eval_result.json"), "utf8"));
    const found = await evaluate(predictions);
    // Only the ranks count, which are the same.
    assert.deepEqual(
      [found.hitAtOne, found.perr, found.gap, found.map, [...found.averagePrecisions], found.videos, found.videosWithoutLabels],
      [expected.hit_at_one, expected.perr, expected.gap, expected.map, expected.aps, VIDEOS, 0],
    );
  });

  test("classifies more videos than fit in a batch, in their order", async () => {
    const { frames, rgb, audio } = learnableVideo(1);
    const videos = Array.from({ length: 70 }, (_, i) => ({ id: `${i}`, frames, rgb, audio }));
    const ids = (await gather(classifier.classify(videos))).map(({ id }) => id);
    assert.deepEqual(
      ids,
      videos.map(({ id }) => id),
    );
    assert.deepEqual(await gather(classifier.classify([])), []);
  });

  test("uses the first maxFrames frames; ID and labels may be missing", async () => {
    const rgb = Uint8Array.from({ length: 9 * 16 }, (_, i) => (i * 37) % 256);
    const audio = Uint8Array.from({ length: 9 * 8 }, (_, i) => (i * 53) % 256);
    const whole = await classifyOne({ frames: 9, rgb, audio });
    const cut = await classifyOne({ frames: 6, rgb: rgb.subarray(0, 96), audio: audio.subarray(0, 48) });
    const less = await classifyOne({ frames: 5, rgb: rgb.subarray(0, 80), audio: audio.subarray(0, 40) });
    assert.deepEqual(whole, cut);
    assert.deepEqual([whole.id, whole.labels], ["", new Int32Array(0)]);
    assert.notDeepEqual(whole.probabilities, less.probabilities);
  });

  test("rejects videos that do not fit the model", async () => {
    const [rgb, audio] = [new Uint8Array(32), new Uint8Array(16)];
    const reject = (video: VideoFeatures, message: RegExp) => assert.rejects(classifyOne(video), { code: "BAD_VIDEO", message });
    await reject(
      { id: "a", frames: 2, rgb, audio: new Uint8Array(18) },
      /^video a: the feature size of audio .*expected 8 bytes per frame, found 9/,
    );
    await reject({ frames: 2, rgb }, /feature size of audio .*found 0/);
    await reject({ frames: 0, rgb: new Uint8Array(0), audio: new Uint8Array(0) }, /no frames/);
    await reject({ frames: 3, rgb, audio }, /invalid rgb features \(expected a Uint8Array of 3 frames, found 32 bytes\)/);
    await reject({ frames: 2, rgb: new Float32Array(32) as unknown as Uint8Array, audio }, /invalid rgb features .*found object/);
  });

  test("passes on an error of the videos, and is usable afterwards", async () => {
    const missing = classifier.classify(readShard(at("missing.tfrecord")));
    await assert.rejects(gather(missing), { code: "FILE_MISSING" });
    assert.equal((await gather(classifier.classify(validationVideos()))).length, VIDEOS);
  });

  test("is an error after dispose, which may be called again", async () => {
    const other = await loadClassifier(at("run/NEXTVLAD_epoch0"));
    assert.equal(other.classNames, null);
    other.dispose();
    other.dispose();
    await assert.rejects(gather(other.classify([learnableVideo(1)])), { code: "BAD_USAGE", message: /after dispose/ });
    assert.equal((await classifyOne(learnableVideo(1))).top.length, CLASSES);
  });
});

test("invalid options are errors", async () => {
  const load = (options: object) => loadClassifier(at("run/best"), { useGpu: false, ...options });
  await assert.rejects(loadClassifier(at("none")), { code: "FILE_MISSING" });
  await assert.rejects(load({ threads: 0 }), {
    code: "BAD_USAGE",
    message: /^threads: invalid value \(expected an integer from 1 to 1024, found 0\)/,
  });
  await assert.rejects(load({ precision: "int4" }), { code: "BAD_CONFIG", message: /precision.*found "int4"/ });
  await assert.rejects(load({ useGpu: "yes please" }), { code: "BAD_CONFIG", message: /useGpu/ });
  await assert.rejects(load({ precision: "tf32" }), { code: "BAD_USAGE", message: /tf32 requires a GPU/ });
  await assert.rejects(load({ config: at("none.yaml") }), { code: "FILE_MISSING" });
  await assert.rejects(load({ labels: at("train.list") }), { code: "BAD_LABELS" });
});

test("weights without a config, and int8", async () => {
  await run("export", "--weights", at("run/best"), "--format", "pdparams", "--out", at("exported.pdparams"));
  const bare = await loadClassifier(at("exported.pdparams"), { useGpu: false, precision: "int8" });
  const exact = await gather(classifier.classify(validationVideos()));
  const rounded = await gather(bare.classify(validationVideos()));
  bare.dispose();
  // int8 changes a probability by up to 0.05 in this small model, but is not equal.
  const differences = rounded.flatMap(({ probabilities }, i) =>
    Array.from(probabilities, (p, c) => Math.abs(p - (exact[i]?.probabilities[c] as number))),
  );
  const largest = Math.max(...differences);
  assert.ok(largest > 0 && largest < 0.05, `${largest}`);
});
