import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { openWeights } from "../../src/checkpoints/open-weights.js";
import { floatsOf, type RawArray } from "../../src/checkpoints/weight-source.js";
import { formatConfig } from "../../src/config/keys.js";
import { buildConfig } from "../../src/config/load.js";
import { writeShard } from "../../src/data/shard-writer.js";
import type { Video } from "../../src/data/video.js";
import { parsePickle } from "../../src/formats/pickle/unpickler.js";
import type { PickledValue, Tuple } from "../../src/formats/pickle/values.js";
import { encodeSafetensors } from "../../src/formats/tensors/safetensors.js";
import { temporaryFolder } from "../helpers/files.js";
import { describeUpdateError, type GoldenCase, goldenFolder, loadGolden, pickKept } from "../helpers/golden.js";
import { runNextvlad, spawnNextvlad } from "../helpers/nextvlad.js";
import { writeVariables } from "../helpers/paddle-files.js";
import { readLog } from "../helpers/runs.js";

const golden = loadGolden("resume");
const classes = golden.sizes.classes;
const ours = (name: string): string => fileURLToPath(new URL(name, goldenFolder("resume")));
const hasTar = spawnSync("tar", ["--version"]).status === 0;

/** Writes the case's videos as a shard. */
async function writeGoldenShard(folder: string, { batch }: GoldenCase): Promise<string> {
  const videos: Video[] = [];
  let frame = 0;
  for (const [i, frames] of batch.frameCounts.entries()) {
    const rgb = batch.rgb.subarray(frame * 1024, (frame + frames) * 1024);
    const audio = batch.audio.subarray(frame * 128, (frame + frames) * 128);
    videos.push({ id: batch.ids[i] as string, frames, labels: batch.labels[i] as Int32Array, rgb, audio });
    frame += frames;
  }
  const shard = join(folder, "golden.tfrecord");
  await writeShard(shard, videos);
  return shard;
}

/** Returns the probabilities of all classes of every video, `[videos, classes]`, from `nextvlad infer` without a config. */
async function infer(
  t: TestContext,
  weights: string,
  shard: string,
  count: number,
  more: readonly string[],
): Promise<{ probabilities: Float64Array; log: string }> {
  const folder = temporaryFolder(t);
  const args = [
    "infer",
    "--weights",
    weights,
    "--filelist",
    shard,
    "--infer-topk",
    String(count),
    "--batch-size",
    "4",
    "--save-dir",
    folder,
  ];
  const { exitCode, stderr } = await runNextvlad([...args, ...more]);
  assert.equal(exitCode, 0, stderr);
  const file = join(folder, "NEXTVLAD_infer_result.pkl");
  const rows = parsePickle(readFileSync(file), file) as PickledValue[];
  const probabilities = new Float64Array(rows.length * count).fill(Number.NaN);
  for (const [row, value] of rows.entries()) {
    const [, chances, indices] = (value as Tuple<PickledValue>).items as [string, number[], number[]];
    for (const [i, index] of indices.entries()) probabilities[row * count + index] = chances[i] as number;
  }
  return { probabilities, log: stderr };
}

/** Paddle's float32 is within 1e-6 of float64 here, so 1e-5 allows for another order of summation. */
function assertNear(probabilities: Float64Array, expected: ArrayLike<number> | undefined): void {
  assert.equal(probabilities.length, expected?.length);
  const largest = probabilities.reduce((most, value, i) => Math.max(most, Math.abs(value - (expected?.[i] as number))), 0);
  assert.ok(largest < 1e-5, `largest difference ${largest}`);
}

const configOf = (dropRate: number): string => {
  const { clusters, groups, expansion, hidden, bottleneck } = golden.sizes;
  const MODEL = {
    num_classes: classes,
    cluster_size: clusters,
    groups,
    expansion,
    hidden_size: hidden,
    gating_reduction: hidden / bottleneck,
    drop_rate: dropRate,
  };
  return formatConfig(buildConfig({ MODEL }, "config.yaml"));
};

describe("Paddle's weights of every format give Paddle's predictions", { concurrency: 2 }, () => {
  let folder: string;
  let shard: string;
  let arrays: RawArray[];
  const at = (name: string): string => join(folder, name);

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "nextvlad-test-"));
    shard = await writeGoldenShard(folder, golden);
    const source = await openWeights(ours("NEXTVLAD.pdparams.gz"), { optimizer: false });
    arrays = [];
    for await (const array of source.read(new Set(source.entries.keys()))) arrays.push({ ...array, bytes: array.bytes.slice() });
    writeFileSync(at("NEXTVLAD.pdparams"), gunzipSync(readFileSync(ours("NEXTVLAD.pdparams.gz"))));
    writeVariables(at("variables"), arrays);
    if (hasTar) {
      spawnSync("tar", ["czf", at("nextvlad_youtube8m.tar.gz"), "-C", folder, "variables"]);
      spawnSync("tar", ["cf", at("weights.tar"), "-C", at("variables"), "."]);
    }
    const tensors = arrays.map((array) => ({ name: array.name, shape: array.shape, dtype: "F32" as const, data: floatsOf(array, "") }));
    const safetensors = Buffer.concat([...encodeSafetensors(tensors)]);
    writeFileSync(at("single.safetensors"), safetensors);
    mkdirSync(at("snapshot"));
    writeFileSync(at("snapshot/weights.safetensors"), safetensors);
    writeFileSync(at("snapshot/config.yaml"), configOf(0.3));
    const state = { format_version: 1, step: 0, epoch: 0, step_in_epoch: 0, seed: 0, best: null, validated_epoch: null };
    writeFileSync(at("snapshot/state.json"), JSON.stringify(state));
  });

  after(() => rmSync(folder, { recursive: true, force: true }));

  const forms: readonly [string, () => string][] = [
    ["the directory of variables", () => at("variables")],
    [".tar.gz", () => at("nextvlad_youtube8m.tar.gz")],
    [".tar", () => at("weights.tar")],
    [".pdparams", () => at("NEXTVLAD.pdparams")],
    [".pdparams.gz", () => ours("NEXTVLAD.pdparams.gz")],
    ["the prefix of .pdparams", () => at("NEXTVLAD")],
    [".safetensors", () => at("single.safetensors")],
  ];
  for (const [name, path] of forms) {
    for (const [rate, vector] of [
      [0, "eval_predictions"],
      [0.3, "eval_predictions_drop0.3"],
    ] as const) {
      test(`${name}, drop_rate ${rate}, sizes inferred from the shapes`, {
        skip: name.startsWith(".tar") && !hasTar && "tar is missing",
      }, async (t) => {
        const { probabilities, log } = await infer(t, path(), shard, classes, ["--set", `MODEL.drop_rate=${rate}`]);
        assertNear(probabilities, golden.vectors.get(vector)?.values);
        assert.match(log, /sizes are inferred from array shapes/);
        assert.doesNotMatch(log, /using drop_rate/);
      });
    }
  }

  test("a snapshot of them includes its drop_rate, whether named by its directory or its file", async (t) => {
    for (const path of [at("snapshot"), at("snapshot/weights.safetensors")]) {
      assertNear((await infer(t, path, shard, classes, [])).probabilities, golden.vectors.get("eval_predictions_drop0.3")?.values);
      const without = await infer(t, path, shard, classes, ["--set", "MODEL.drop_rate=0"]);
      assertNear(without.probabilities, golden.vectors.get("eval_predictions")?.values);
    }
  });

  test("an unknown drop_rate is 0.5, with a warning", async (t) => {
    const byDefault = await infer(t, at("variables"), shard, classes, []);
    assert.match(byDefault.log, /using drop_rate 0\.5, which weights do not contain; set another one with --set MODEL\.drop_rate=RATE/);
    const given = await infer(t, at("variables"), shard, classes, ["--set", "MODEL.drop_rate=0.5"]);
    assert.deepEqual(byDefault.probabilities, given.probabilities);
  });

  test("without --weights, the published file names in ~/.paddle/weights are tried", async (t) => {
    const home = temporaryFolder(t);
    const out = ["--filelist", shard, "--save-dir", join(home, "out")];
    const none = await spawnNextvlad(["eval", ...out], { env: { ...process.env, HOME: home } });
    assert.equal(none.exitCode, 1);
    assert.match(
      none.error,
      /\.paddle\/weights, --weights: .*nextvlad_youtube8m\.tar\.gz.*https:\/\/paddlemodels\.bj\.bcebos\.com\/video_classification\/nextvlad_youtube8m\.tar\.gz/,
    );
    mkdirSync(join(home, ".paddle/weights"), { recursive: true });
    copyFileSync(at("NEXTVLAD.pdparams"), join(home, ".paddle/weights/NEXTVLAD.pdparams"));
    const found = await spawnNextvlad(["eval", ...out], { env: { ...process.env, HOME: home } });
    assert.equal(found.exitCode, 0, found.stderr);
    assert.match(found.stderr, /weights: .*\.paddle\/weights\/NEXTVLAD\.pdparams, Paddle's \.pdparams/);
  });

  test("all mismatches are reported at once, with the values found", async (t) => {
    const odd = arrays.flatMap((array): RawArray[] => {
      if (array.name === "eigen_param") return [];
      if (array.name === "gating_fc2_weights") return [{ ...array, name: "gating_fc2_weights_renamed" }];
      return [array];
    });
    writeVariables(at("odd"), odd);
    const args = ["--set", "MODEL.num_classes=12", "--save-dir", temporaryFolder(t)];
    writeFileSync(at("c.yaml"), configOf(0));
    const { exitCode, error } = await runNextvlad(["eval", "--weights", at("odd"), "--config", at("c.yaml"), "--filelist", shard, ...args]);
    assert.equal(exitCode, 1);
    const expected =
      /odd: 4 arrays do not match the model: eigen_param \[1024\] is missing; gating_fc2_weights \[4, 16\] is missing; logits_clf_weights is \[16, 10\], expected \[16, 12\]; and 1 more; not in the model: gating_fc2_weights_renamed \[4, 16\]\./;
    assert.match(error, expected);
  });

  test("--pretrain loads them, including their eigen_param", async (t) => {
    const run = temporaryFolder(t);
    writeFileSync(join(run, "c.yaml"), configOf(0));
    const set = [
      "--set",
      `TRAIN.filelist=${shard}`,
      "--set",
      "TRAIN.batch_size=6",
      "--set",
      "MODEL.eigen_file=nowhere.npy",
      "--valid-interval",
      "0",
    ];
    const args = [
      "train",
      "--pretrain",
      ours("NEXTVLAD.pdparams.gz"),
      "--config",
      join(run, "c.yaml"),
      "--save-dir",
      join(run, "out"),
      "--epoch",
      "1",
    ];
    const { exitCode, stderr } = await runNextvlad([...args, ...set]);
    assert.equal(exitCode, 0, stderr);
    assert.match(stderr, /loaded pretrained weights from .*NEXTVLAD\.pdparams\.gz, Paddle's \.pdparams: 42 of 42 arrays/);
  });
});

test("training resumes from Paddle's checkpoint at its step", async (t) => {
  const folder = temporaryFolder(t);
  const shard = await writeGoldenShard(folder, golden);
  const args = (saveDir: string): string[] => [
    ...["train", "--resume", ours("checkpoint3.pdparams.gz"), "--save-dir", saveDir, "--valid-interval", "0", "--log-interval", "1"],
    ...["--set", `TRAIN.filelist=${shard}`, "--set", "TRAIN.batch_size=6", "--set", "MODEL.drop_rate=0", "--epoch", "2"],
  ];
  const run = join(folder, "run");
  const { exitCode, stderr, stdout } = await runNextvlad(args(run));
  assert.equal(exitCode, 0, stderr);
  assert.match(stderr, /resuming from .*checkpoint3\.pdparams\.gz: epoch 0, step 3 \(step from the powers of beta2; epochs count from 0/);
  assert.match(stdout, /epochs: 2,\tsteps: 5/);
  const losses = readLog(run).flatMap(({ loss }) => (loss === undefined ? [] : [loss as number]));
  assert.equal(losses.length, 2);
  const [before, after] = [await readArrays(ours("checkpoint3.pdparams.gz")), await readArrays(join(run, "NEXTVLAD_epoch1"))];
  let compared = 0;
  for (const [name, values] of after) {
    // Only every n-th row of the largest array was kept of Paddle's values.
    const theirs = golden.vectors.get(`after5/${name}${golden.strides[name] === undefined ? "" : "/rows"}`);
    // With drop_rate 0 the exact gradient of these two is zero, and Paddle's is rounding error; moving statistics are not trained.
    if (theirs === undefined || /^batch_norm_[13]\.b_0$|\.w_[12]$/.test(name)) continue;
    const pick = (all: Float32Array): Float32Array => pickKept(golden, name, all, theirs.shape.at(-1) as number);
    assert.equal(describeUpdateError(pick(before.get(name) as Float32Array), pick(values), theirs.values), null, name);
    compared++;
  }
  assert.equal(compared, 27);
  const validation = ["--valid-interval", "2", "--set", `VALID.filelist=${shard}`, "--set", "VALID.batch_size=6"];
  const averaged = await runNextvlad([...args(join(folder, "averaged")), ...validation, "--set", "TRAIN.ema_decay=0.5"]);
  assert.equal(averaged.exitCode, 0, averaged.stderr);
  // The averages begin with Paddle's weights: after 2 steps, 0.5^2 of them is left.
  assert.match(averaged.stderr, /EMA weights \(25 % the initial weights\)/);
});

async function readArrays(path: string): Promise<Map<string, Float32Array>> {
  const source = await openWeights(path, { optimizer: false });
  const arrays = new Map<string, Float32Array>();
  for await (const array of source.read(new Set(source.entries.keys()))) arrays.set(array.name, floatsOf(array, path).slice());
  await source.close();
  return arrays;
}

/** Folder of Paddle's golden files, which may be missing. */
const shared = process.env.NEXTVLAD_GOLDEN ?? resolve("../shared/golden");
describe("the small case, from Paddle's own files", {
  skip: !existsSync(join(shared, "small")) && "the golden files are missing",
}, () => {
  const small = loadGolden("small");
  for (const file of ["NEXTVLAD.pdparams.gz", "nextvlad_youtube8m.tar.gz"]) {
    test(file, async (t) => {
      const folder = temporaryFolder(t);
      const shard = await writeGoldenShard(folder, small);
      for (const [rate, vector] of [
        [0, "eval_predictions"],
        [0.3, "eval_predictions_drop0.3"],
      ] as const) {
        const { probabilities } = await infer(t, join(shared, "small", file), shard, small.sizes.classes, [
          "--set",
          `MODEL.drop_rate=${rate}`,
        ]);
        assertNear(probabilities, small.vectors.get(vector)?.values);
      }
      assert.deepEqual(readdirSync(folder), ["golden.tfrecord"], "nothing is unpacked");
    });
  }
});
