import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ownKernels } from "../../src/kernels/choose.js";
import { RaggedLayout } from "../../src/kernels/ragged.js";
import { REFERENCE } from "../../src/kernels/reference.js";
import { aggregateBatch } from "../../src/model/aggregate-batch.js";
import { FrozenNetwork } from "../../src/model/frozen.js";
import type { TrainingContext } from "../../src/model/layers.js";
import { NETVLAD, netvladNames } from "../../src/model/netvlad.js";
import { forwardForTraining, type NetworkInput } from "../../src/model/network.js";
import { GATING_EXPAND, GATING_NORM, GATING_REDUCE, HIDDEN, HIDDEN_NORM, type Parameter } from "../../src/model/parameters.js";
import { type ModalitySizes, type ModelSizes, modalitiesOf } from "../../src/model/sizes.js";
import type { WeightStore } from "../../src/model/weights.js";
import { type Tensor, tidy } from "../../src/runtime/tensor.js";
import { toFloats } from "../../src/runtime/transfer.js";
import { AT_ONCE, type BlockCase, checkBlock, randomStore, runToEnd, SMALL } from "../helpers/blocks.js";
import { type FullTfjs, loadForTests, loadFullTfjs, type TapeTensor } from "../helpers/device.js";
import { failsWith } from "../helpers/shards.js";
import { referenceBatchNorm } from "../helpers/tape.js";

const SIZES: ModelSizes = { ...SMALL, model: "NETVLAD", groups: 1, expansion: 1 };
const [RGB, AUDIO] = modalitiesOf(SIZES) as [ModalitySizes, ModalitySizes];
/**
 * Enough videos that the batch norms over videos leave a gradient that is not only rounding; and no input of the gating's ReLU so close to 0 that a finite
 * difference crosses the kink.
 */
const FRAME_COUNTS = Int32Array.of(4, 1, 8, 3, 6, 5, 2, 7);
const FRAMES = FRAME_COUNTS.reduce((sum, count) => sum + count, 0);
const bytesOf = (features: number): Uint8Array =>
  Uint8Array.from({ length: FRAMES * features }, (_, i) => (i * 97 + Math.floor(i / 7) * 13) % 256);
const INPUT: NetworkInput = { frameCounts: FRAME_COUNTS, rgb: bytesOf(RGB.features), audio: bytesOf(AUDIO.features) };

const trained = (parameters: readonly Parameter[]): string[] => parameters.flatMap(({ name, trained }) => (trained ? [name] : []));

/** A modality's features `[frames][features]`, in double precision. */
function featuresOf({ name, features }: ModalitySizes, store: WeightStore): number[][] {
  const eigen = name === "rgb" ? store.variable("eigen_param").download() : null;
  const value = (byte: number, f: number): number =>
    eigen === null ? (byte * 4) / 255 - 2 + 4 / 512 : ((byte * 4) / 255 - 2) * (eigen[f] as number);
  return Array.from({ length: FRAMES }, (_, t) =>
    Array.from({ length: features }, (_, f) => value(INPUT[name][t * features + f] as number, f)),
  );
}

/** NetVLAD by its definition, in plain loops and double precision; with the batch's statistics, or the moving ones if `frozen`. */
function netvladInLoops(modality: ModalitySizes, store: WeightStore, frozen: boolean): number[] {
  const { features: F, clusters: K } = modality;
  const names = netvladNames(modality.name);
  const value = (name: string): Float32Array => store.variable(name).download();
  const [wc, c, scale, shift] = [names.clusters, names.centers, names.clusterNorm.scale, names.clusterNorm.shift].map(value) as [
    Float32Array,
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const x = featuresOf(modality, store);
  const z = x.map((frame) =>
    Array.from({ length: K }, (_, k) => frame.reduce((sum, value, f) => sum + value * (wc[f * K + k] as number), 0)),
  );
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const statistics = Array.from({ length: K }, (_, k) => {
    if (frozen) return [value(names.clusterNorm.movingMean)[k], value(names.clusterNorm.movingVariance)[k]] as [number, number];
    const column = z.map((row) => row[k] as number);
    return [mean(column), mean(column.map((each) => (each - mean(column)) ** 2))] as const;
  });
  const a = z.map((row) => {
    const exponentials = row.map((each, k) => {
      const [middle, variance] = statistics[k] as readonly [number, number];
      return Math.exp(((each - middle) / Math.sqrt(variance + 1e-5)) * (scale[k] as number) + (shift[k] as number));
    });
    const total = exponentials.reduce((sum, each) => sum + each, 0);
    return exponentials.map((each) => each / total);
  });
  let begin = 0;
  return Array.from(FRAME_COUNTS).flatMap((count) => {
    const descriptor = new Array<number>(F * K).fill(0);
    for (let k = 0; k < K; k++) {
      for (let f = 0; f < F; f++) {
        for (let t = begin; t < begin + count; t++) {
          const at = f * K + k;
          descriptor[at] =
            (descriptor[at] as number) + ((a[t] as number[])[k] as number) * (((x[t] as number[])[f] as number) - (c[k * F + f] as number));
        }
      }
      const length = Math.hypot(...Array.from({ length: F }, (_, f) => descriptor[f * K + k] as number));
      for (let f = 0; f < F; f++) descriptor[f * K + k] = (descriptor[f * K + k] as number) / length;
    }
    begin += count;
    const length = Math.hypot(...descriptor);
    return descriptor.map((each) => each / length);
  });
}

function assertClose(found: Float32Array, expected: readonly number[], tolerance: number): void {
  assert.equal(found.length, expected.length);
  const largest = found.reduce((max, value, i) => Math.max(max, Math.abs(value - (expected[i] as number))), 0);
  assert.ok(largest < tolerance, `largest difference ${largest}`);
}

/** NetVLAD in tfjs's operations, which its tape differentiates; each video is computed separately. */
function netvladOnTape(tf: FullTfjs, modality: ModalitySizes, store: WeightStore, parameters: ReadonlyMap<string, TapeTensor>): TapeTensor {
  const { features: F, clusters: K } = modality;
  const names = netvladNames(modality.name);
  const value = (name: string): TapeTensor => parameters.get(name) as TapeTensor;
  const x = tf.tensor2d(featuresOf(modality, store));
  const a = tf.softmax(referenceBatchNorm(tf, tf.matMul(x, value(names.clusters)), names.clusterNorm, parameters));
  let begin = 0;
  const descriptors = Array.from(FRAME_COUNTS, (count) => {
    const [xv, av] = [tf.slice(x, [begin, 0], [count, F]), tf.slice(a, [begin, 0], [count, K])];
    begin += count;
    const v = tf.sub(tf.matMul(xv, av, true, false), tf.mul(tf.transpose(value(names.centers)), tf.sum(av, 0, true)));
    const u = tf.div(v, tf.sqrt(tf.add(tf.sum(tf.square(v), 0, true), 1e-12)));
    return tf.reshape(tf.div(u, tf.sqrt(tf.add(tf.sum(tf.square(u)), 1e-12))), [F * K]);
  });
  return tf.stack(descriptors);
}

const IGNORE: Omit<TrainingContext, "weights" | "kernels"> = {
  onGradient: () => undefined,
  backwardDense: () => assert.fail("unexpected dense layer"),
  onBatchStatistics: () => undefined,
};

describe("NetVLAD", () => {
  let tf: FullTfjs;
  let store: WeightStore;
  before(async () => {
    tf = await loadFullTfjs();
    store = randomStore(SIZES);
  });
  after(() => store.dispose());

  for (const [kernelsName, kernelsOf] of [
    ["our kernels", ownKernels],
    ["the reference kernels", () => REFERENCE],
  ] as const) {
    // float32 rounding of values up to 1: a few 1e-7.
    test(`descriptors equal the definition in plain loops within 1e-5, in training and frozen: ${kernelsName}`, () => {
      const kernels = kernelsOf();
      const layout = new RaggedLayout(FRAME_COUNTS);
      for (const modality of [RGB, AUDIO]) {
        const inTraining = tidy(() =>
          toFloats(
            runToEnd(
              aggregateBatch(NETVLAD, AT_ONCE, INPUT[modality.name], layout, modality, {
                weights: store,
                kernels,
                ...IGNORE,
              }),
            ).y,
          ),
        );
        assertClose(inTraining, netvladInLoops(modality, store, false), 1e-5);
        const aggregator = NETVLAD.freeze(modality, { weights: store, kernels, precision: "float32", factor: 0.75 });
        const frozen = tidy(() => toFloats(aggregator.aggregate(INPUT[modality.name], layout)));
        aggregator.dispose();
        assertClose(
          frozen,
          netvladInLoops(modality, store, true).map((value) => 0.75 * value),
          1e-5,
        );
      }
    });

    // `checkBlock` states the bounds, per array: 1e-4 of the gradient's norm against the tape (float32, other order of sums), 2e-2 against finite differences.
    test(`outputs and gradients of the aggregator equal the tape's and finite differences: ${kernelsName}`, () => {
      for (const modality of [RGB, AUDIO]) {
        const block: BlockCase = {
          inputs: [],
          parameters: trained(NETVLAD.parameters(modality)),
          forward: (_, context) => {
            const { y, backward } = runToEnd(
              aggregateBatch(NETVLAD, AT_ONCE, INPUT[modality.name], new RaggedLayout(FRAME_COUNTS), modality, context),
            );
            return {
              outputs: [y],
              backward: ([dy]) => {
                runToEnd(backward(dy as Tensor));
                return [];
              },
            };
          },
          reference: (_, parameters) => [netvladOnTape(tf, modality, store, parameters)],
        };
        checkBlock(tf, store, block, kernelsOf());
      }
    });

    test(`logits and gradients of the whole network equal the tape's and finite differences: ${kernelsName}`, () => {
      const block: BlockCase = {
        inputs: [],
        parameters: trained(store.table),
        forward: (_, context) => {
          const { logits, backward } = forwardForTraining(
            INPUT,
            SIZES,
            { rates: { descriptor: 0, hidden: 0 }, seeds: { descriptor: [0, 0], hidden: [0, 0] } },
            AT_ONCE,
            context,
          );
          return {
            outputs: logits,
            backward: ([dy]) => {
              backward([dy as Tensor]);
              return [];
            },
          };
        },
        reference: (_, parameters) => {
          const value = (name: string): TapeTensor => parameters.get(name) as TapeTensor;
          const descriptors = tf.concat(
            [RGB, AUDIO].map((modality) => netvladOnTape(tf, modality, store, parameters)),
            1,
          );
          const h = referenceBatchNorm(tf, tf.matMul(descriptors, value(HIDDEN)), HIDDEN_NORM, parameters);
          const reduced = referenceBatchNorm(tf, tf.matMul(h, value(GATING_REDUCE)), GATING_NORM, parameters);
          const gates = tf.sigmoid(tf.matMul(tf.relu(reduced), value(GATING_EXPAND)));
          return [tf.add(tf.matMul(tf.mul(h, gates), value("logits_clf_weights")), value("logits_clf_bias"))];
        },
      };
      checkBlock(tf, store, block, kernelsOf());
    });
  }

  test("has no parameters but the cluster weights, their batch norm and the centers", () => {
    const shapes = NETVLAD.parameters(RGB).map(({ name, shape }) => [name, shape]);
    assert.deepEqual(shapes, [
      ["video_cluster_weights", [10, 3]],
      ["batch_norm_0.w_0", [3]],
      ["batch_norm_0.b_0", [3]],
      ["batch_norm_0.w_1", [3]],
      ["batch_norm_0.w_2", [3]],
      ["video_cluster_weights2", [3, 10]],
    ]);
    assert.equal(NETVLAD.descriptorLength(RGB), 30);
  });
});

test("NetVLAD rejects the integer precisions", async () => {
  await loadForTests();
  const store = randomStore(SIZES);
  for (const precision of ["int16", "int8"] as const) {
    const freeze = async () => new FrozenNetwork(SIZES, { descriptor: 0.5, hidden: 0 }, store, ownKernels(), precision);
    await failsWith(freeze(), "BAD_USAGE", { key: "--precision" });
  }
  store.dispose();
});
