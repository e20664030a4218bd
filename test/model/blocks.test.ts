import { after, before, describe, test } from "node:test";
import { assign } from "../../src/model/assignment.js";
import { normaliseBatch } from "../../src/model/batch-norm.js";
import { dense } from "../../src/model/dense.js";
import { normaliseDescriptors } from "../../src/model/descriptor-norm.js";
import { dropOut } from "../../src/model/dropout.js";
import { floatFeatures } from "../../src/model/features.js";
import { projectFrames, projectionNames } from "../../src/model/frame-projection.js";
import { applyGate } from "../../src/model/gate.js";
import { batchNormNames } from "../../src/model/parameters.js";
import { RaggedLayout } from "../../src/model/ragged.js";
import { aggregateForTraining } from "../../src/model/vlad.js";
import type { WeightStore } from "../../src/model/weight-store.js";
import { padFrames, unpadFrames } from "../../src/tensorflow/fused-kernels.js";
import { type KernelChoice, TENSORFLOW_KERNELS } from "../../src/tensorflow/kernel-choice.js";
import { type Tensor, tidy } from "../../src/tensorflow/runtime.js";
import { type BlockCase, checkBlock, copyOf, normal, randomStore, SMALL, VIDEO } from "../helpers/blocks.js";
import { loadWholeTfjs, type WholeTfjs } from "../helpers/device.js";

const EPSILON = 1e-5;
const LAYOUT = new RaggedLayout(Int32Array.of(5, 1, 8));
const FRAMES = 14;
const { groups: G, clusters: K } = SMALL;
const P = VIDEO.groupSize;
const D = VIDEO.expanded;

let tf: WholeTfjs;
let store: WeightStore;
/** The same, computed by TensorFlow's kernels only. */
let composed: WeightStore;

const value = (parameters: ReadonlyMap<string, Tensor>, name: string): Tensor => parameters.get(name) as Tensor;

function batchNorm(x: Tensor, index: number, parameters: ReadonlyMap<string, Tensor>): Tensor {
  const names = batchNormNames(index);
  const mean = tf.mean(x, 0);
  const variance = tf.mean(tf.square(tf.sub(x, mean)), 0);
  const unit = tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, EPSILON)));
  return tf.add(tf.mul(unit, value(parameters, names.scale)), value(parameters, names.shift));
}

const normParameters = (index: number): readonly string[] => [batchNormNames(index).scale, batchNormNames(index).shift];

/** An assignment `[frames G, K]` as the device's kernels have it, and the way back. */
const laidOut = (x: Tensor, { gpu }: KernelChoice, layout = LAYOUT): Tensor =>
  gpu ? padFrames(tf.reshape(x, [FRAMES, G * K]), layout.frameCounts, G) : x.clone();
const backToBack = (x: Tensor, { gpu }: KernelChoice, layout = LAYOUT): Tensor =>
  gpu ? tf.reshape(unpadFrames(x, layout.frameCounts), [FRAMES * G, K]) : x;

/** Each case is checked on outputs, on every gradient against tfjs's tape, and against finite differences. */
const cases: Record<string, () => BlockCase> = {
  "batch norm": () => ({
    inputs: [normal([FRAMES, SMALL.hidden])],
    parameters: normParameters(4),
    forward: ([x], context) => {
      const { y, backward } = normaliseBatch(x as Tensor, batchNormNames(4), context);
      return { outputs: [y], backward: ([dy]) => [backward(dy as Tensor)] };
    },
    reference: ([x], parameters) => [batchNorm(x as Tensor, 4, parameters)],
  }),
  "assignment: softmax with attention over a batch norm": () => ({
    inputs: [normal([FRAMES, G * K]), normal([FRAMES, G])],
    parameters: normParameters(0),
    forward: ([logits, attention], context) => {
      const { kernels } = context.weights;
      const offset = tf.zeros([G * K]);
      const options = { groups: G, clusters: K, layout: LAYOUT };
      const { assignment, mass, backward } = assign(logits as Tensor, offset, attention as Tensor, batchNormNames(0), options, context);
      const toInputs = ([da, dm]: readonly Tensor[]) => {
        const d = backward(laidOut(da as Tensor, kernels), dm as Tensor);
        return [d.logits, d.attention];
      };
      return { outputs: [backToBack(assignment, kernels), mass], backward: toInputs };
    },
    reference: ([logits, attention], parameters) => {
      const shares = tf.softmax(tf.reshape(batchNorm(logits as Tensor, 0, parameters), [FRAMES * G, K]));
      const assignment = tf.mul(shares, tf.reshape(tf.sigmoid(attention as Tensor), [FRAMES * G, 1]));
      const perFrame = tf.reshape(assignment, [FRAMES, G * K]);
      return [assignment, tf.stack(tf.split(perFrame, [...LAYOUT.frameCounts]).map((frames) => tf.sum(frames, 0)))];
    },
  }),
  "vlad: the sums over a ragged batch": () => ({
    inputs: [normal([FRAMES * G, K]), normal([3, G * K]), normal([FRAMES, D])],
    parameters: ["video_cluster_weights2"],
    forward: ([assignment, mass, expanded], context) => {
      const { kernels } = context.weights;
      const options = { stream: VIDEO, groups: G, clusters: K, layout: LAYOUT };
      const sums = aggregateForTraining(laidOut(assignment as Tensor, kernels), mass as Tensor, expanded as Tensor, options, context);
      const toInputs = ([d]: readonly Tensor[]) => {
        const gradients = sums.backward(d as Tensor);
        return [backToBack(gradients.assignment, kernels), gradients.mass, gradients.expanded];
      };
      return { outputs: [sums.vlad], backward: toInputs };
    },
    reference: ([assignment, mass, expanded], parameters) => {
      const bias = tf.tensor(store.variable("video_fc_expansion_b").download());
      return [sums(assignment as Tensor, mass as Tensor, expanded as Tensor, bias, value(parameters, "video_cluster_weights2"))];
    },
  }),
  "vlad of a single video": () => {
    const layout = new RaggedLayout(Int32Array.of(FRAMES));
    return {
      inputs: [normal([FRAMES * G, K]), normal([1, G * K]), normal([FRAMES, D])],
      parameters: ["video_cluster_weights2"],
      forward: ([assignment, mass, expanded], context) => {
        const { kernels } = context.weights;
        const options = { stream: VIDEO, groups: G, clusters: K, layout };
        const made = aggregateForTraining(
          laidOut(assignment as Tensor, kernels, layout),
          mass as Tensor,
          expanded as Tensor,
          options,
          context,
        );
        const toInputs = ([d]: readonly Tensor[]) => {
          const gradients = made.backward(d as Tensor);
          return [backToBack(gradients.assignment, kernels, layout), gradients.mass, gradients.expanded];
        };
        return { outputs: [made.vlad], backward: toInputs };
      },
      reference: ([assignment, mass, expanded], parameters) => {
        const bias = tf.tensor(store.variable("video_fc_expansion_b").download());
        const centres = value(parameters, "video_cluster_weights2");
        return [sums(assignment as Tensor, mass as Tensor, expanded as Tensor, bias, centres, layout)];
      },
    };
  },
  "descriptor norm": () => ({
    inputs: [normal([3, P, K])],
    parameters: [],
    forward: ([x]) => {
      const { y, backward } = normaliseDescriptors(x as Tensor);
      return { outputs: [y], backward: ([dy]) => [backward(dy as Tensor)] };
    },
    reference: ([x]) => {
      const length = tf.sqrt(tf.add(tf.sum(tf.square(x as Tensor), 1, true), 1e-12));
      return [tf.reshape(tf.div(x as Tensor, length), [3, P * K])];
    },
  }),
  dense: () => ({
    inputs: [normal([5, SMALL.hidden])],
    parameters: ["logits_clf_weights"],
    forward: ([x], context) => {
      const { y, backward } = dense(x as Tensor, "logits_clf_weights", context);
      return { outputs: [y], backward: ([dy]) => [backward(dy as Tensor)] };
    },
    reference: ([x], parameters) => [tf.matMul(x as Tensor, value(parameters, "logits_clf_weights"))],
  }),
  gate: () => ({
    inputs: [normal([9, SMALL.hidden])],
    parameters: ["gating_fc1_weights", "gating_fc2_weights", ...normParameters(5)],
    forward: ([x], context) => {
      const { y, backward } = applyGate(x as Tensor, context);
      return { outputs: [y], backward: ([dy]) => [backward(dy as Tensor)] };
    },
    reference: ([x], parameters) => {
      const reduced = batchNorm(tf.matMul(x as Tensor, value(parameters, "gating_fc1_weights")), 5, parameters);
      return [tf.mul(x as Tensor, tf.sigmoid(tf.matMul(tf.relu(reduced), value(parameters, "gating_fc2_weights"))))];
    },
  }),
  dropout: () => ({
    inputs: [normal([6, 40])],
    parameters: [],
    forward: ([x]) => {
      const { y, backward } = dropOut(x as Tensor, 0.4, [1, 2]);
      return { outputs: [y], backward: ([dy]) => [backward(dy as Tensor)] };
    },
    reference: ([x]) => {
      const mask = tidy(() => dropOut(tf.ones([6, 40]), 0.4, [1, 2]).y);
      return [tf.mul(x as Tensor, mask)];
    },
  }),
};

/** The vlad sums, video by video: of the frames as SPEC.md writes them, but for the bias and the centres, which meet the mass. */
function sums(assignment: Tensor, mass: Tensor, expanded: Tensor, bias: Tensor, centres: Tensor, layout = LAYOUT): Tensor {
  const groupRows = tf.reshape(expanded, [FRAMES * G, P]);
  const perVideo = Array.from(layout.frameCounts, (frames, video) => {
    const begin = (layout.offsets[video] as number) * G;
    const a = tf.slice(assignment, [begin, 0], [frames * G, K]);
    const x = tf.slice(groupRows, [begin, 0], [frames * G, P]);
    const m = tf.reshape(tf.slice(mass, [video, 0], [1, G * K]), [G, K]);
    const constant = tf.sub(tf.matMul(tf.reshape(bias, [G, P]), m, true, false), tf.mul(tf.transpose(centres), tf.sum(m, 0, true)));
    return tf.add(tf.matMul(x, a, true, false), constant);
  });
  return tf.stack(perVideo);
}

describe("each block's outputs and gradients", () => {
  before(async () => {
    tf = await loadWholeTfjs();
    store = randomStore();
    composed = copyOf(store, TENSORFLOW_KERNELS);
  });
  after(() => {
    store.dispose();
    composed.dispose();
  });

  for (const [name, make] of Object.entries(cases)) {
    test(name, () => tidy(() => checkBlock(tf, store, make())));
    test(`${name}, of TensorFlow's own kernels only`, () => tidy(() => checkBlock(tf, composed, make())));
  }

  // The logits' bias b Wc is left out (a batch norm follows), so the projection is checked with one behind it.
  test("frame projection, folded, with the batch norm that cancels its shift", () => {
    const names = projectionNames(VIDEO);
    const parameters = [names.expansion, names.attention, names.attentionBias, names.clusters, ...normParameters(0)];
    tidy(() => {
      const x = normal([FRAMES, VIDEO.features]);
      checkBlock(tf, store, {
        inputs: [],
        parameters: [...parameters, names.expansionBias],
        forward: (_, context) => {
          const projection = projectFrames(floatFeatures(x.clone()), VIDEO, context);
          const norm = normaliseBatch(projection.logits, batchNormNames(0), context, projection.logitsOffset);
          const backward = ([dExpanded, dNormal, dAttention]: readonly Tensor[]) => {
            const expanded = dExpanded as Tensor;
            const expansionBias = tf.sum(expanded, 0);
            projection.backward({ expanded, logits: norm.backward(dNormal as Tensor), attention: dAttention as Tensor, expansionBias });
            return [];
          };
          const withBias = tidy(() => context.weights.use(names.expansionBias, (b) => tf.add(projection.expanded, b)));
          return { outputs: [withBias, norm.y, projection.attention], backward };
        },
        reference: (_, values) => {
          const x1 = tf.add(tf.matMul(x, value(values, names.expansion)), value(values, names.expansionBias));
          const logits = batchNorm(tf.matMul(x1, value(values, names.clusters)), 0, values);
          const attention = tf.add(tf.matMul(x1, value(values, names.attention)), value(values, names.attentionBias));
          return [x1, logits, attention];
        },
      });
    });
  });
});
