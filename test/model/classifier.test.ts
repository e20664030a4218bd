import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ownKernels } from "../../src/kernels/choose.js";
import { REFERENCE } from "../../src/kernels/reference.js";
import { classifierParameters, classify, freezeClassifier } from "../../src/model/classifier.js";
import type { ModelSizes } from "../../src/model/sizes.js";
import { WeightStore } from "../../src/model/weights.js";
import { type Tensor, tidy } from "../../src/runtime/tensor.js";
import { fromFloats, toFloats } from "../../src/runtime/transfer.js";
import { type BlockCase, checkBlock, normal, randomStore, SMALL } from "../helpers/blocks.js";
import { type FullTfjs, loadFullTfjs, type TapeTensor } from "../helpers/device.js";

const MIXTURES = 3;
const SIZES: ModelSizes = { ...SMALL, mixtures: MIXTURES };
const { classes, hidden } = SIZES;
const VIDEOS = 5;

/** Probabilities of the mixture of experts by google/youtube-8m's formula, in plain loops and double precision. */
function probabilitiesInLoops(h: Float32Array, store: WeightStore): number[] {
  const value = (name: string): Float32Array => store.variable(name).download();
  const [gates, experts, bias] = [value("gates_clf_weights"), value("experts_clf_weights"), value("experts_clf_bias")];
  const dot = (video: number, w: Float32Array, column: number): number => {
    const columns = w.length / hidden;
    return Array.from({ length: hidden }, (_, i) => (h[video * hidden + i] as number) * (w[i * columns + column] as number)).reduce(
      (sum, term) => sum + term,
      0,
    );
  };
  return Array.from({ length: VIDEOS * classes }, (_, i) => {
    const [video, c] = [Math.floor(i / classes), i % classes];
    const u = Array.from({ length: MIXTURES + 1 }, (_, m) => Math.exp(dot(video, gates, c * (MIXTURES + 1) + m)));
    const total = u.reduce((sum, each) => sum + each, 0);
    const expert = (m: number): number => 1 / (1 + Math.exp(-dot(video, experts, c * MIXTURES + m) - (bias[c * MIXTURES + m] as number)));
    return Array.from({ length: MIXTURES }, (_, m) => ((u[m] as number) / total) * expert(m)).reduce((sum, each) => sum + each, 0);
  });
}

describe("the mixture of experts", () => {
  let tf: FullTfjs;
  let store: WeightStore;
  before(async () => {
    tf = await loadFullTfjs();
    store = randomStore(SIZES);
  });
  after(() => store.dispose());

  for (const [name, kernelsOf] of [
    ["our kernels", ownKernels],
    ["the reference kernels", () => REFERENCE],
  ] as const) {
    test(`has the probabilities of the formula, frozen and in training, within 1e-5: ${name}`, () => {
      const h = tidy(() => toFloats(normal([VIDEOS, hidden])));
      const expected = probabilitiesInLoops(h, store);
      const frozen = tidy(() => freezeClassifier(SIZES, store, kernelsOf()));
      const context = { weights: store, kernels: kernelsOf(), onGradient: () => undefined, backwardDense: () => assert.fail() };
      const logitsOf: Record<string, Float32Array> = {
        frozen: tidy(() => toFloats(frozen.apply(fromFloats(h, [VIDEOS, hidden])))),
        training: tidy(() =>
          toFloats(classify(fromFloats(h, [VIDEOS, hidden]), SIZES, { ...context, onBatchStatistics: () => undefined }).y),
        ),
      };
      frozen.dispose();
      for (const [mode, logits] of Object.entries(logitsOf)) {
        assert.equal(logits.length, expected.length);
        for (const [i, logit] of logits.entries()) {
          const difference = Math.abs(1 / (1 + Math.exp(-logit)) - (expected[i] as number));
          assert.ok(difference < 1e-5, `${mode}, value ${i}: off by ${difference}`);
        }
      }
    });

    test(`has the gradients of the tape and of finite differences: ${name}`, () => {
      tidy(() => {
        const block: BlockCase = {
          inputs: [normal([VIDEOS, hidden])],
          parameters: classifierParameters(SIZES).map((parameter) => parameter.name),
          forward: ([h], context) => {
            const { y, backward } = classify(h as Tensor, SIZES, context);
            return { outputs: [y], backward: ([dy]) => [backward(dy as Tensor)] };
          },
          reference: ([h], parameters) => {
            const value = (parameter: string): TapeTensor => parameters.get(parameter) as TapeTensor;
            const rows = VIDEOS * classes;
            const gates = tf.softmax(tf.reshape(tf.matMul(h as TapeTensor, value("gates_clf_weights")), [rows, MIXTURES + 1]));
            const experts = tf.sigmoid(
              tf.reshape(tf.add(tf.matMul(h as TapeTensor, value("experts_clf_weights")), value("experts_clf_bias")), [rows, MIXTURES]),
            );
            const p = tf.sum(tf.mul(tf.slice(gates, [0, 0], [rows, MIXTURES]), experts), 1);
            return [tf.reshape(tf.log(tf.div(p, tf.sub(1, p))), [VIDEOS, classes])];
          },
        };
        checkBlock(tf, store, block, kernelsOf());
      });
    });
  }

  test("has finite logits and gradients where its probabilities are 0 or 1 in float32", () => {
    const extreme = new WeightStore(store.table);
    for (const { name, shape } of classifierParameters(SIZES)) {
      const length = shape.reduce((product, size) => product * size, 1);
      extreme.variable(name).upload(Float32Array.from({ length }, (_, i) => (i % 2 === 0 ? 1 : -1) * (i % 3) * 40));
    }
    const found: Float32Array[] = [];
    const logits = tidy(() => {
      const { y, backward } = classify(normal([VIDEOS, hidden]), SIZES, {
        weights: extreme,
        kernels: REFERENCE,
        onGradient: (_, gradient) => void found.push(toFloats(gradient)),
        backwardDense: (_, x, dy) => {
          found.push(toFloats(dy));
          return x.clone();
        },
        onBatchStatistics: () => undefined,
      });
      const values = toFloats(y);
      backward(normal([VIDEOS, classes]));
      return values;
    });
    assert.ok(Math.max(...logits.map(Math.abs)) > 100, "the logits should be large");
    assert.equal(found.length, 3);
    for (const values of [logits, ...found]) assert.ok(values.every(Number.isFinite));
    extreme.dispose();
  });
});
