import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { countValues } from "../../src/base/numbers.js";
import { createRandom } from "../../src/base/random.js";
import { encodeOnnx } from "../../src/formats/protobuf/onnx.js";
import { chooseKernels } from "../../src/kernels/choose.js";
import type { DropRates } from "../../src/model/drop-rates.js";
import { FrozenNetwork } from "../../src/model/frozen.js";
import { type NetworkInput, parameterTable } from "../../src/model/network.js";
import { buildOnnxModel } from "../../src/model/onnx.js";
import type { ModelSizes } from "../../src/model/sizes.js";
import { WeightStore } from "../../src/model/weights.js";
import { loadTensorflow } from "../../src/runtime/runtime.js";
import { tidy } from "../../src/runtime/tensor.js";
import { toFloats } from "../../src/runtime/transfer.js";
import { loadGolden } from "../helpers/golden.js";

/** Both compute in float32, in different orders: a few 1e-6 apart. */
const TOLERANCE = 1e-5;

const DROP_RATES: DropRates = { descriptor: 0.5, hidden: 0.25 };

type Weights = ReadonlyMap<string, Float32Array>;

function listWeights(sizes: ModelSizes, weights: Weights) {
  return parameterTable(sizes).map(({ name, shape }) => ({ name, shape, data: weights.get(name) as Float32Array }));
}

function openSession(sizes: ModelSizes, dropRates: DropRates, weights: Weights, maxFrames = 300): Promise<InferenceSession> {
  const model = buildOnnxModel({ sizes, dropRates, maxFrames, weights: listWeights(sizes, weights), version: "test" });
  return InferenceSession.create(Buffer.concat(encodeOnnx(model)));
}

async function runOnnx(session: InferenceSession, sizes: ModelSizes, { frameCounts, rgb, audio }: NetworkInput): Promise<Float32Array> {
  const features = { rgb: [rgb, sizes.rgbFeatures], audio: [audio, sizes.audioFeatures] } as const;
  const feeds: Record<string, Tensor> = {
    frame_counts: new Tensor("int64", BigInt64Array.from(frameCounts, BigInt), [frameCounts.length]),
  };
  for (const [name, [bytes, size]] of Object.entries(features)) {
    if (size > 0) feeds[name] = new Tensor("uint8", bytes, [bytes.length / size, size]);
  }
  const { probabilities } = await session.run(feeds);
  assert.deepEqual(probabilities?.dims, [frameCounts.length, sizes.classes]);
  return probabilities?.data as Float32Array;
}

function runOurs(sizes: ModelSizes, dropRates: DropRates, weights: Weights, input: NetworkInput): Float32Array {
  const store = new WeightStore(parameterTable(sizes));
  for (const { name, data } of listWeights(sizes, weights)) store.variable(name).upload(data);
  const network = new FrozenNetwork(sizes, dropRates, store, chooseKernels());
  const probabilities = tidy(() => toFloats(network.probabilities(input)));
  network.dispose();
  store.dispose();
  return probabilities;
}

/** The first `maxFrames` frames of each video, as the shards' readers take them. */
function truncate(input: NetworkInput, maxFrames: number, sizes: ModelSizes): NetworkInput {
  const videos = Array.from(input.frameCounts, (count, video) => {
    const { rgb, audio } = pick(input, video, sizes);
    const frames = Math.min(count, maxFrames);
    return { frames, rgb: rgb.subarray(0, frames * sizes.rgbFeatures), audio: audio.subarray(0, frames * sizes.audioFeatures) };
  });
  return {
    frameCounts: Int32Array.from(videos, ({ frames }) => frames),
    rgb: Buffer.concat(videos.map(({ rgb }) => rgb)),
    audio: Buffer.concat(videos.map(({ audio }) => audio)),
  };
}

/** One video of a batch. */
function pick({ frameCounts, rgb, audio }: NetworkInput, video: number, sizes: ModelSizes): NetworkInput {
  const begin = frameCounts.subarray(0, video).reduce((sum, count) => sum + count, 0);
  const end = begin + (frameCounts[video] as number);
  const cut = (bytes: Uint8Array, size: number): Uint8Array => bytes.subarray(begin * size, end * size);
  return {
    frameCounts: frameCounts.subarray(video, video + 1),
    rgb: cut(rgb, sizes.rgbFeatures),
    audio: cut(audio, sizes.audioFeatures),
  };
}

function assertClose(found: ArrayLike<number>, expected: ArrayLike<number>): void {
  assert.equal(found.length, expected.length);
  for (let i = 0; i < found.length; i++) {
    const difference = Math.abs((found[i] as number) - (expected[i] as number));
    assert.ok(difference < TOLERANCE, `value ${i}: ${found[i]} and ${expected[i]}`);
  }
}

/** Weights of a variance at which every part of the network affects the output. */
function drawWeights(sizes: ModelSizes, seed: number): Weights {
  const random = createRandom(seed, "digits");
  const draw = (): number => random.below(2001) / 1000 - 1;
  return new Map(
    parameterTable(sizes).map(({ name, shape }) => {
      const spread = shape.length > 1 ? 2 / Math.sqrt(shape[0] as number) : 0.5;
      const positive = /^(branch\d_batch_norm_\d|batch_norm_\d|mix_norm)\.w_[02]$|^eigen_param$/.test(name);
      return [name, Float32Array.from({ length: countValues(shape) }, () => (positive ? 0.6 + Math.abs(draw()) : spread * draw()))];
    }),
  );
}

function drawInput(sizes: ModelSizes, frameCounts: readonly number[]): NetworkInput {
  const random = createRandom(frameCounts.length, "digits");
  const frames = frameCounts.reduce((sum, count) => sum + count, 0);
  const bytes = (size: number): Uint8Array => Uint8Array.from({ length: frames * size }, () => random.below(256));
  return { frameCounts: Int32Array.from(frameCounts), rgb: bytes(sizes.rgbFeatures), audio: bytes(sizes.audioFeatures) };
}

describe("the ONNX graph in ONNX Runtime", () => {
  before(() => loadTensorflow(false));

  const golden = loadGolden("small");
  const weights: Weights = new Map(Array.from(golden.weights, ([name, { values }]) => [name, values as Float32Array]));

  for (const [dropRate, vector] of [
    [0, "eval_predictions"],
    [0.3, "eval_predictions_drop0.3"],
  ] as const) {
    test(`predicts as we do and as Paddle did within 1e-5, five videos at once and one by one, drop_rate ${dropRate}`, async () => {
      const { sizes, batch } = golden;
      const session = await openSession(sizes, { descriptor: dropRate, hidden: 0 }, weights);
      const ours = runOurs(sizes, { descriptor: dropRate, hidden: 0 }, weights, batch);
      const together = await runOnnx(session, sizes, batch);
      assertClose(together, ours);
      assertClose(together, golden.vectors.get(vector)?.values as Float32Array);
      for (const video of batch.frameCounts.keys()) {
        const alone = await runOnnx(session, sizes, pick(batch, video, sizes));
        assertClose(alone, ours.subarray(video * sizes.classes, (video + 1) * sizes.classes));
      }
    });
  }

  const other: ModelSizes = {
    model: "NEXTVLAD",
    classes: 7,
    clusters: 3,
    groups: 2,
    expansion: 3,
    hidden: 10,
    bottleneck: 5,
    mixtures: 1,
    rgbFeatures: 12,
    audioFeatures: 4,
  };
  for (const [name, sizes] of [
    ["other sizes", other],
    ["rgb alone", { ...other, audioFeatures: 0 }],
    ["audio alone", { ...other, rgbFeatures: 0 }],
    ["a mixture of three experts", { ...other, mixtures: 3 }],
    ["MixNeXtVLAD", { ...other, model: "MIX_NEXTVLAD" }],
    ["MixNeXtVLAD of rgb alone with two experts", { ...other, model: "MIX_NEXTVLAD", mixtures: 2, audioFeatures: 0 }],
    ["NetVLAD", { ...other, model: "NETVLAD", groups: 1, expansion: 1 }],
    ["NetVLAD of audio alone", { ...other, model: "NETVLAD", groups: 1, expansion: 1, rgbFeatures: 0 }],
  ] as const) {
    test(`predicts as we do within 1e-5: ${name}`, async () => {
      const drawn = drawWeights(sizes, 5);
      const session = await openSession(sizes, DROP_RATES, drawn);
      for (const frameCounts of [[1], [300], [2, 1, 9, 1, 40, 3]]) {
        const input = drawInput(sizes, frameCounts);
        const ours = runOurs(sizes, DROP_RATES, drawn, input);
        assertClose(await runOnnx(session, sizes, input), ours);
        assert.ok(Math.max(...ours) - Math.min(...ours) > 0.03, "the classes should differ");
      }
    });
  }

  test("uses the first max_frames frames of each video, as the readers do", async () => {
    const drawn = drawWeights(other, 6);
    const session = await openSession(other, DROP_RATES, drawn, 4);
    for (const frameCounts of [[5000], [3, 9, 4, 5, 1]]) {
      const input = drawInput(other, frameCounts);
      const found = await runOnnx(session, other, input);
      assertClose(found, runOurs(other, DROP_RATES, drawn, truncate(input, 4, other)));
      const whole = runOurs(other, DROP_RATES, drawn, input);
      assert.ok(
        found.some((value, i) => Math.abs(value - (whole[i] as number)) > 0.01),
        "the frames past max_frames should matter",
      );
    }
  });
});
