import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { ownKernels } from "../../src/kernels/choose.js";
import { REFERENCE } from "../../src/kernels/reference.js";
import { slice } from "../../src/kernels/tensorflow-ops.js";
import type { Kernels } from "../../src/kernels/types.js";
import { batchNorm, useAffine } from "../../src/model/layers.js";
import { BATCH_NORM_EPSILON, HIDDEN_NORM } from "../../src/model/parameters.js";
import { withShareNorm } from "../../src/model/share-norm.js";
import type { WeightStore } from "../../src/model/weights.js";
import { type Tensor, tidy } from "../../src/runtime/tensor.js";
import { toFloats } from "../../src/runtime/transfer.js";
import { type BlockCase, checkBlock, normal, randomStore, SMALL } from "../helpers/blocks.js";
import { type FullTfjs, loadFullTfjs, type TapeTensor } from "../helpers/device.js";
import { referenceBatchNorm } from "../helpers/tape.js";

/** The shares of 14 rows of three ranks: the first row and the number of rows. */
const SHARES = [
  [0, 5],
  [5, 5],
  [10, 4],
] as const;
const ROWS = 14;

describe("the batch norm of each rank's share", () => {
  let tf: FullTfjs;
  let store: WeightStore;
  before(async () => {
    tf = await loadFullTfjs();
    store = randomStore();
  });
  after(() => store.dispose());

  for (const [name, kernelsOf] of [
    ["our kernels", ownKernels],
    ["the reference kernels", (): Kernels => REFERENCE],
  ] as const) {
    // `checkBlock` states the bounds.
    test(`outputs and gradients are those of a batch norm of each share by the tape, and no tensor leaks: ${name}`, () => {
      const block = (): BlockCase => ({
        inputs: [normal([ROWS, SMALL.hidden])],
        parameters: [HIDDEN_NORM.scale, HIDDEN_NORM.shift],
        forward: ([x], context) => {
          const { y, backward } = batchNorm(x as Tensor, HIDDEN_NORM, {
            ...context,
            kernels: withShareNorm(context.kernels, SHARES.length),
          });
          return { outputs: [y], backward: ([dy]) => [backward(dy as Tensor)] };
        },
        reference: ([x], parameters) => {
          const shares = SHARES.map(([first, count]) => tf.slice(x as TapeTensor, [first, 0], [count, SMALL.hidden]));
          const norms = shares.map((share) => referenceBatchNorm(tf, share, HIDDEN_NORM, parameters));
          return [tf.concat(norms, 0)];
        },
      });
      tidy(() => checkBlock(tf, store, block(), kernelsOf()));
    });

    test(`the statistics are those of rank 0's share: ${name}`, () => {
      const statistics = (kernels: Kernels, x: Tensor): readonly Float32Array[] =>
        tidy(() => {
          const { mean, variance } = useAffine(HIDDEN_NORM, store, (norm) => kernels.batchNorm(x, norm, BATCH_NORM_EPSILON));
          return [toFloats(mean), toFloats(variance)];
        });
      tidy(() => {
        const x = normal([ROWS, SMALL.hidden]);
        const first = slice(x, [0, 0], [SHARES[0][1], SMALL.hidden]);
        const expected = statistics(kernelsOf(), first);
        assert.deepEqual(statistics(withShareNorm(kernelsOf(), SHARES.length), x), expected);
      });
    });
  }
});
