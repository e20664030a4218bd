import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ownKernels } from "../../src/kernels/choose.js";
import { padFrames, unpadFrames } from "../../src/kernels/native-ops.js";
import { RaggedLayout } from "../../src/kernels/ragged.js";
import { REFERENCE } from "../../src/kernels/reference.js";
import { reshape } from "../../src/kernels/tensorflow-ops.js";
import type { Kernels } from "../../src/kernels/types.js";
import { useAffine } from "../../src/model/layers.js";
import { nextvladNames } from "../../src/model/nextvlad.js";
import { BATCH_NORM_EPSILON } from "../../src/model/parameters.js";
import type { WeightStore } from "../../src/model/weights.js";
import { fill } from "../../src/runtime/constants.js";
import { runtime } from "../../src/runtime/runtime.js";
import { type Tensor, tidy } from "../../src/runtime/tensor.js";
import { fromFloats, toFloats } from "../../src/runtime/transfer.js";
import { type BlockCase, checkBlock, normal, RGB, randomStore, SMALL } from "../helpers/blocks.js";
import { type FullTfjs, loadFullTfjs, type TapeTensor } from "../helpers/device.js";
import { referenceBatchNorm } from "../helpers/tape.js";

const FRAMES = 14;
const { groups: G, clusters: K } = SMALL;
const P = RGB.groupSize;
const D = RGB.expanded;
const NAMES = nextvladNames("rgb");

let tf: FullTfjs;
let store: WeightStore;

/** Whether the kernels keep assignments padded to a rectangle. */
const isPadded = (kernels: Kernels): boolean => kernels !== REFERENCE && runtime().device.kind === "gpu";
/** An assignment `[frames G, K]` in the layout of the kernels, and the inverse. */
const laidOut = (x: Tensor, kernels: Kernels, { frameCounts }: RaggedLayout): Tensor =>
  isPadded(kernels) ? padFrames(reshape(x, [FRAMES, G * K]), frameCounts, G) : x.clone();
const backToBack = (x: Tensor, kernels: Kernels, { frameCounts }: RaggedLayout): Tensor =>
  isPadded(kernels) ? reshape(unpadFrames(x, frameCounts), [FRAMES * G, K]) : x;

/** Each kernel is checked on outputs, on every gradient against tfjs's tape, and against finite differences. */
function casesOf(layout: RaggedLayout): Record<string, () => BlockCase> {
  return {
    "soft assignment": () => ({
      inputs: [normal([FRAMES, G * K]), normal([FRAMES, G])],
      parameters: [NAMES.clusterNorm.scale, NAMES.clusterNorm.shift],
      forward: ([z, alpha], { kernels, weights, onGradient }) => {
        const names = NAMES.clusterNorm;
        const moments = kernels.moments(z as Tensor);
        const soft = useAffine(names, weights, (norm) =>
          kernels.softAssign(z as Tensor, alpha as Tensor, moments, norm, layout, BATCH_NORM_EPSILON),
        );
        moments.dispose();
        const backward = ([da, dASum]: readonly Tensor[]) => {
          const d = soft.backward(laidOut(da as Tensor, kernels, layout), dASum as Tensor);
          const dz = weights.use(names.scale, (scale) => d.z(scale, d, FRAMES));
          onGradient(names.scale, d.scale);
          onGradient(names.shift, d.shift);
          return [dz, d.alpha];
        };
        return { outputs: [backToBack(soft.assignment, kernels, layout), soft.aSum], backward };
      },
      reference: ([z, alpha], parameters) => {
        const shares = tf.softmax(tf.reshape(referenceBatchNorm(tf, z as TapeTensor, NAMES.clusterNorm, parameters), [FRAMES * G, K]));
        const assignment = tf.mul(shares, tf.reshape(tf.sigmoid(alpha as TapeTensor), [FRAMES * G, 1]));
        const perFrame = tf.reshape(assignment, [FRAMES, G * K]);
        const perVideo = Array.from(layout.frameCounts, (count, video) =>
          tf.sum(tf.slice(perFrame, [layout.offsets[video] as number, 0], [count, G * K]), 0),
        );
        return [assignment, tf.stack(perVideo)];
      },
    }),
    "the sums over frames and groups": () => ({
      inputs: [normal([FRAMES * G, K]), normal([FRAMES, D])],
      parameters: [],
      forward: ([assignment, x1], { kernels }) => {
        const { sums, backward } = kernels.vladSums(laidOut(assignment as Tensor, kernels, layout), x1 as Tensor, layout, G);
        const toInputs = ([dSums]: readonly Tensor[]) => {
          const d = backward(dSums as Tensor);
          return [backToBack(d.assignment, kernels, layout), d.x1];
        };
        return { outputs: [sums], backward: toInputs };
      },
      reference: ([assignment, x1]) => {
        const groupRows = tf.reshape(x1 as TapeTensor, [FRAMES * G, P]);
        const perVideo = Array.from(layout.frameCounts, (frames, video) => {
          const begin = (layout.offsets[video] as number) * G;
          const a = tf.slice(assignment as TapeTensor, [begin, 0], [frames * G, K]);
          return tf.matMul(tf.slice(groupRows, [begin, 0], [frames * G, P]), a, true, false);
        });
        return [tf.stack(perVideo)];
      },
    }),
    descriptor: () => ({
      inputs: [normal([layout.videos, P, K]), normal([layout.videos, G * K])],
      parameters: [NAMES.expansionBias, NAMES.centers],
      forward: ([sums, aSum], { kernels, weights, onGradient }) => {
        const use = <T>(compute: (bias: Tensor, centers: Tensor) => T): T =>
          weights.use(NAMES.expansionBias, (bias) => weights.use(NAMES.centers, (centers) => compute(bias, centers)));
        const { y, backward } = use((bias, centers) => kernels.descriptor(sums as Tensor, aSum as Tensor, bias, centers));
        const toInputs = ([dy]: readonly Tensor[]) => {
          const d = use((bias, centers) => backward(dy as Tensor, bias, centers));
          onGradient(NAMES.expansionBias, d.bias);
          onGradient(NAMES.centers, d.centers);
          return [d.sums, d.aSum];
        };
        return { outputs: [y], backward: toInputs };
      },
      // Each group's part of x1 = x W + b has its own b; the centers are the same for all groups.
      reference: ([sums, aSum], parameters) => {
        const bias = tf.reshape(parameters.get(NAMES.expansionBias) as TapeTensor, [G, P]);
        const centers = parameters.get(NAMES.centers) as TapeTensor;
        const perVideo = Array.from(layout.frameCounts, (_, video) => {
          const perGroup = tf.reshape(tf.slice(aSum as TapeTensor, [video, 0], [1, G * K]), [G, K]);
          const constant = tf.sub(tf.matMul(bias, perGroup, true, false), tf.mul(tf.transpose(centers), tf.sum(perGroup, 0, true)));
          const v = tf.add(tf.reshape(tf.slice(sums as TapeTensor, [video, 0, 0], [1, P, K]), [P, K]), constant);
          return tf.reshape(tf.div(v, tf.sqrt(tf.add(tf.sum(tf.square(v), 0, true), 1e-12))), [P * K]);
        });
        return [tf.stack(perVideo)];
      },
    }),
  };
}

/** A nearly empty cluster: x / sqrt(sum of x^2 + 1e-12), at lengths where the epsilon matters. */
function checkShortDescriptors(kernels: Kernels): void {
  const [first, second] = [3e-7, 4e-7];
  const zeros = fill([1, G * K], 0);
  const sums = fromFloats(
    Float32Array.from({ length: P * K }, (_, i) => (i < K ? first : i < 2 * K ? second : 0)),
    [1, P, K],
  );
  const y = toFloats(kernels.descriptor(sums, zeros, fill([D], 0), fill([K, P], 0)).y);
  const length = Math.sqrt(first ** 2 + second ** 2 + 1e-12);
  for (const [i, value] of y.entries()) {
    const expected = (i < K ? first : i < 2 * K ? second : 0) / length;
    // float32 rounding of a few operations.
    assert.ok(Math.abs(value - expected) < 1e-5, `at ${i}: ${value}, expected ${expected}`);
  }
}

describe("each kernel's outputs and gradients", () => {
  before(async () => {
    tf = await loadFullTfjs();
    store = randomStore();
  });
  after(() => store.dispose());

  test("a descriptor of almost zero length", () => {
    for (const kernels of [ownKernels(), REFERENCE]) tidy(() => checkShortDescriptors(kernels));
  });

  for (const [videos, frameCounts] of [
    ["a ragged batch", [5, 1, 8]],
    ["a single video", [FRAMES]],
  ] as const) {
    for (const [name, make] of Object.entries(casesOf(new RaggedLayout(Int32Array.from(frameCounts))))) {
      test(`${name} of ${videos}`, () => tidy(() => checkBlock(tf, store, make(), ownKernels())));
      test(`${name} of ${videos}, with the reference kernels`, () => tidy(() => checkBlock(tf, store, make(), REFERENCE)));
    }
  }
});
