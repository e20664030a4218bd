import { after, before, describe, test } from "node:test";
import { ownKernels } from "../../src/kernels/choose.js";
import { REFERENCE } from "../../src/kernels/reference.js";
import { batchNorm, contextGating, dense, dropout } from "../../src/model/layers.js";
import { type BatchNormNames, GATING_NORM, HIDDEN_NORM } from "../../src/model/parameters.js";
import type { WeightStore } from "../../src/model/weights.js";
import { fill } from "../../src/runtime/constants.js";
import { type Tensor, tidy } from "../../src/runtime/tensor.js";
import { type BlockCase, checkBlock, normal, randomStore, SMALL } from "../helpers/blocks.js";
import { type FullTfjs, loadFullTfjs, type TapeTensor, toTape } from "../helpers/device.js";
import { referenceBatchNorm } from "../helpers/tape.js";

let tf: FullTfjs;
let store: WeightStore;

const value = (parameters: ReadonlyMap<string, TapeTensor>, name: string): TapeTensor => parameters.get(name) as TapeTensor;
const normParameters = ({ scale, shift }: BatchNormNames): readonly string[] => [scale, shift];

/** Each layer is checked on outputs, on every gradient against tfjs's tape, and against finite differences. */
const cases: Record<string, () => BlockCase> = {
  "batch norm": () => ({
    inputs: [normal([14, SMALL.hidden])],
    parameters: normParameters(HIDDEN_NORM),
    forward: ([x], context) => {
      const { y, backward } = batchNorm(x as Tensor, HIDDEN_NORM, context);
      return { outputs: [y], backward: ([dy]) => [backward(dy as Tensor)] };
    },
    reference: ([x], parameters) => [referenceBatchNorm(tf, x as TapeTensor, HIDDEN_NORM, parameters)],
  }),
  dense: () => ({
    inputs: [normal([5, SMALL.hidden])],
    parameters: ["logits_clf_weights"],
    forward: ([x], context) => {
      const { y, backward } = dense(x as Tensor, "logits_clf_weights", context);
      return { outputs: [y], backward: ([dy]) => [backward(dy as Tensor)] };
    },
    reference: ([x], parameters) => [tf.matMul(x as TapeTensor, value(parameters, "logits_clf_weights"))],
  }),
  "context gating": () => ({
    inputs: [normal([9, SMALL.hidden])],
    parameters: ["gating_fc1_weights", "gating_fc2_weights", ...normParameters(GATING_NORM)],
    forward: ([x], context) => {
      const { y, backward } = contextGating(x as Tensor, context);
      return { outputs: [y], backward: ([dy]) => [backward(dy as Tensor)] };
    },
    reference: ([x], parameters) => {
      const reduced = referenceBatchNorm(tf, tf.matMul(x as TapeTensor, value(parameters, "gating_fc1_weights")), GATING_NORM, parameters);
      return [tf.mul(x as TapeTensor, tf.sigmoid(tf.matMul(tf.relu(reduced), value(parameters, "gating_fc2_weights"))))];
    },
  }),
  dropout: () => ({
    inputs: [normal([6, 40])],
    parameters: [],
    forward: ([x], { kernels }) => {
      const { y, backward } = dropout(x as Tensor, 0.4, [1, 2], kernels);
      return { outputs: [y], backward: ([dy]) => [backward(dy as Tensor)] };
    },
    reference: ([x]) => {
      const mask = tidy(() => toTape(tf, dropout(fill([6, 40], 1), 0.4, [1, 2], REFERENCE).y));
      return [tf.mul(x as TapeTensor, mask)];
    },
  }),
};

describe("each layer's outputs and gradients", () => {
  before(async () => {
    tf = await loadFullTfjs();
    store = randomStore();
  });
  after(() => store.dispose());

  for (const [name, make] of Object.entries(cases)) {
    test(name, () => tidy(() => checkBlock(tf, store, make(), ownKernels())));
    test(`${name}, with the reference kernels`, () => tidy(() => checkBlock(tf, store, make(), REFERENCE)));
  }
});
