import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ownKernels } from "../../src/kernels/choose.js";
import { REFERENCE } from "../../src/kernels/reference.js";
import { branchPrefixes, nameInModel } from "../../src/model/branch.js";
import { lossGradients } from "../../src/model/distillation.js";
import { FrozenNetwork } from "../../src/model/frozen.js";
import { ratedMask } from "../../src/model/layers.js";
import { forwardForTraining, type NetworkInput, parameterTable } from "../../src/model/network.js";
import { GATING_EXPAND, GATING_NORM, GATING_REDUCE, HIDDEN, HIDDEN_NORM } from "../../src/model/parameters.js";
import { type ModelSizes, modalitiesOf } from "../../src/model/sizes.js";
import { WeightStore } from "../../src/model/weights.js";
import { tidy } from "../../src/runtime/tensor.js";
import { fromFloats, toFloats } from "../../src/runtime/transfer.js";
import { AT_ONCE, type BlockCase, checkBlock, normal, randomStore, SMALL } from "../helpers/blocks.js";
import { type FullTfjs, loadFullTfjs, type TapeTensor } from "../helpers/device.js";
import { nextvladOnTape, referenceBatchNorm } from "../helpers/tape.js";

const SIZES: ModelSizes = { ...SMALL, model: "MIX_NEXTVLAD" };
const PREFIXES = branchPrefixes("MIX_NEXTVLAD");
const MODALITIES = modalitiesOf(SIZES);
/** Without dropout, the next batch norm cancels these shifts: their exact gradient is zero. */
const CANCELLED = /^branch\d_batch_norm_[13]\.b_0$/;
const FEATURES = SIZES.rgbFeatures + SIZES.audioFeatures;

function inputOf(frameCounts: readonly number[]): NetworkInput {
  const frames = frameCounts.reduce((sum, count) => sum + count, 0);
  const bytes = (features: number): Uint8Array =>
    Uint8Array.from({ length: frames * features }, (_, i) => (i * 97 + Math.floor(i / 7) * 13) % 256);
  return { frameCounts: Int32Array.from(frameCounts), rgb: bytes(SIZES.rgbFeatures), audio: bytes(SIZES.audioFeatures) };
}

/** Each modality's features `[frames, F]`, rgb before audio. */
function featuresOf(input: NetworkInput, store: WeightStore): readonly Float32Array[] {
  const eigen = store.variable("eigen_param").download();
  const rgb = Float32Array.from(input.rgb, (byte, i) => ((byte * 4) / 255 - 2) * (eigen[i % SIZES.rgbFeatures] as number));
  return [rgb, Float32Array.from(input.audio, (byte) => (byte * 4) / 255 - 2 + 4 / 512)];
}

/** The mean of each feature over a video's frames, in double precision: `[videos][F]`. */
function meansOf(input: NetworkInput, store: WeightStore): number[][] {
  const features = featuresOf(input, store);
  let begin = 0;
  return Array.from(input.frameCounts, (count) => {
    const means = MODALITIES.flatMap(({ features: width }, i) =>
      Array.from({ length: width }, (_, f) => {
        const values = Array.from({ length: count }, (_, t) => features[i]?.[(begin + t) * width + f] as number);
        return values.reduce((sum, value) => sum + value, 0) / count;
      }),
    );
    begin += count;
    return means;
  });
}

const softmax = (logits: readonly number[]): number[] => {
  const largest = Math.max(...logits);
  const exponentials = logits.map((z) => Math.exp(z - largest));
  const total = exponentials.reduce((sum, each) => sum + each, 0);
  return exponentials.map((each) => each / total);
};

const NO_DROPOUT = { rates: { descriptor: 0, hidden: 0 }, seeds: { descriptor: [0, 0], hidden: [0, 0] } } as const;

describe("MixNeXtVLAD", () => {
  let tf: FullTfjs;
  let store: WeightStore;
  before(async () => {
    tf = await loadFullTfjs();
    store = randomStore(SIZES);
  });
  after(() => store.dispose());

  test("has three NeXtVLAD networks under their prefixes, one eigen_param, and a gate", () => {
    const branch = parameterTable(SMALL).filter(({ name }) => name !== "eigen_param");
    const table = parameterTable(SIZES);
    assert.equal(new Set(table.map(({ name }) => name)).size, table.length);
    const gate = ["mix_norm.w_0", "mix_norm.b_0", "mix_norm.w_1", "mix_norm.w_2", "mix_gate_weights", "mix_gate_bias"];
    assert.deepEqual(
      table.map(({ name }) => name),
      ["eigen_param", ...gate, ...["branch0_", "branch1_", "branch2_"].flatMap((prefix) => branch.map(({ name }) => prefix + name))],
    );
    const { shape } = table.find(({ name }) => name === "mix_gate_weights") ?? assert.fail();
    assert.deepEqual(shape, [FEATURES, 3]);
  });

  test("the logits of the mixture and the branches, and all gradients, equal the tape's and finite differences", () => {
    const input = inputOf([4, 1, 8, 3, 6, 5, 2, 7]);
    // Normalized values of 8 videos are at most sqrt(7) in size, so no finite difference crosses the kink of the gating's ReLU.
    for (const prefix of PREFIXES) store.variable(prefix + GATING_NORM.shift).upload(Float32Array.of(4, -4, 4));
    const block: BlockCase = {
      inputs: [],
      parameters: store.table.flatMap(({ name, trained }) => (trained && !CANCELLED.test(name) ? [name] : [])),
      forward: (_, context) => {
        const { logits, backward } = forwardForTraining(input, SIZES, NO_DROPOUT, AT_ONCE, {
          ...context,
          onGradient: (name, gradient) => (CANCELLED.test(name) ? gradient.dispose() : context.onGradient(name, gradient)),
        });
        return {
          outputs: logits,
          backward: (dLogits) => {
            backward(dLogits);
            return [];
          },
        };
      },
      reference: (_, parameters) => {
        const features = featuresOf(input, store);
        const ofBranches = PREFIXES.map((prefix) => {
          const inModel = (name: string): string => nameInModel(prefix, name);
          const constant = (name: string): TapeTensor => tf.tensor(store.variable(name).download());
          const ofBranch = { get: (name: string) => parameters.get(inModel(name)) ?? constant(inModel(name)) };
          const value = (name: string): TapeTensor => ofBranch.get(name) as TapeTensor;
          const descriptors = MODALITIES.map((modality, i) => {
            const x = tf.tensor(features[i] as Float32Array, [36, modality.features]);
            return nextvladOnTape(tf, modality, x, input.frameCounts, ofBranch);
          });
          const h = referenceBatchNorm(tf, tf.matMul(tf.concat(descriptors, 1), value(HIDDEN)), HIDDEN_NORM, ofBranch);
          const reduced = referenceBatchNorm(tf, tf.matMul(h, value(GATING_REDUCE)), GATING_NORM, ofBranch);
          const gates = tf.sigmoid(tf.matMul(tf.relu(reduced), value(GATING_EXPAND)));
          return tf.add(tf.matMul(tf.mul(h, gates), value("logits_clf_weights")), value("logits_clf_bias"));
        });
        const value = (name: string): TapeTensor => parameters.get(name) as TapeTensor;
        const norm = { scale: "mix_norm.w_0", shift: "mix_norm.b_0", movingMean: "", movingVariance: "" };
        const normalized = referenceBatchNorm(tf, tf.tensor2d(meansOf(input, store)), norm, parameters);
        const shares = tf.softmax(tf.add(tf.matMul(normalized, value("mix_gate_weights")), value("mix_gate_bias")));
        const terms = ofBranches.map((z, m) => tf.mul(z, tf.slice(shares, [0, m], [8, 1])));
        return [tf.addN(terms), ...ofBranches];
      },
    };
    checkBlock(tf, store, block, ownKernels());
  });

  // More videos than the gate dequantizes at once.
  test("frozen, it averages the logits of its branches by the gate's shares, within 1e-5", () => {
    const input = inputOf(Array.from({ length: 37 }, (_, i) => 1 + (i % 5)));
    const logitsOf = (sizes: ModelSizes, weights: WeightStore): Float32Array => {
      const network = new FrozenNetwork(sizes, { descriptor: 0.5, hidden: 0.25 }, weights, ownKernels());
      const logits = tidy(() => toFloats(network.logits(input)));
      network.dispose();
      return logits;
    };
    const ofBranches = PREFIXES.map((prefix) => {
      const branch = new WeightStore(parameterTable(SMALL));
      for (const { name } of branch.table) branch.variable(name).upload(store.variable(nameInModel(prefix, name)).download());
      const logits = logitsOf(SMALL, branch);
      branch.dispose();
      return logits;
    });
    const value = (name: string): Float32Array => store.variable(name).download();
    const [scale, shift, mean, variance] = ["w_0", "b_0", "w_1", "w_2"].map((part) => value(`mix_norm.${part}`)) as Float32Array[];
    const [w, b] = [value("mix_gate_weights"), value("mix_gate_bias")];
    const at = (values: Float32Array | undefined, i: number): number => values?.[i] as number;
    const expected = meansOf(input, store).flatMap((means, video) => {
      const normalized = means.map((x, f) => ((x - at(mean, f)) / Math.sqrt(at(variance, f) + 1e-5)) * at(scale, f) + at(shift, f));
      const shares = softmax(PREFIXES.map((_, m) => normalized.reduce((sum, x, f) => sum + x * at(w, f * 3 + m), at(b, m))));
      return Array.from({ length: SIZES.classes }, (_, c) =>
        ofBranches.reduce((sum, logits, m) => sum + (shares[m] as number) * at(logits, video * SIZES.classes + c), 0),
      );
    });
    const found = logitsOf(SIZES, store);
    assert.equal(found.length, expected.length);
    for (const [i, logit] of found.entries()) assert.ok(Math.abs(logit - (expected[i] as number)) < 1e-5, `value ${i}`);
  });

  const assertLossGradients = (rated: readonly Int32Array[] | undefined): void => {
    const [videos, classes, temperature] = [4, 5, 3];
    const isCounted = (i: number): boolean => rated === undefined || (rated[Math.floor(i / classes)] as Int32Array).includes(i % classes);
    const logits = Array.from({ length: 4 }, () => tidy(() => toFloats(normal([videos, classes]))).map((z) => 3 * z));
    const labels = Float32Array.from({ length: videos * classes }, (_, i) => (i % 3 === 0 ? 1 : (i % 4) / 8));
    const lossOf = (all: readonly Float64Array[]): number => {
      let total = 0;
      for (const z of all) {
        for (const [i, l] of z.entries())
          if (isCounted(i)) total += Math.log1p(Math.exp(-Math.abs(l))) + Math.max(l, 0) - l * (labels[i] as number);
      }
      for (let video = 0; video < videos; video++) {
        const [p = [], ...ofBranches] = all.map((z) =>
          softmax(Array.from(z.subarray(video * classes, (video + 1) * classes), (l) => l / temperature)),
        );
        for (const q of ofBranches)
          total += temperature ** 2 * p.reduce((sum, each, c) => sum + each * Math.log(each / (q[c] as number)), 0);
      }
      return total / videos;
    };
    const gradients = tidy(() => {
      const tensors = logits.map((z) => fromFloats(z, [videos, classes]));
      return lossGradients(tensors, fromFloats(labels, [videos, classes]), temperature, REFERENCE, ratedMask(rated, classes)).map(toFloats);
    });
    assert.equal(gradients.length, 4);
    const STEP = 1e-5;
    for (const [which, gradient] of gradients.entries()) {
      for (const [i, found] of gradient.entries()) {
        const moved = (sign: number): number =>
          lossOf(logits.map((z, other) => Float64Array.from(z, (l, j) => (other === which && j === i ? l + sign * STEP : l))));
        const expected = (moved(1) - moved(-1)) / (2 * STEP);
        assert.ok(Math.abs(found - expected) < 1e-4, `logits ${which}, value ${i}: ${found}, expected ${expected}`);
      }
    }
  };

  test("the gradients of the loss with distillation equal differences of its formula in double precision, within 1e-4", () =>
    assertLossGradients(undefined));

  test("so do those of rated segments, whose unrated classes count in the distillation only", () =>
    assertLossGradients([[0, 3], [4], [], [1, 2, 3]].map((classes) => Int32Array.from(classes))));
});
