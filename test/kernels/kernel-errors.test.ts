import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { NextvladError } from "../../src/base/errors.js";
import { packDense } from "../../src/kernels/native-ops.js";
import { runMany } from "../../src/runtime/execution.js";
import { loadTensorflow, runtime } from "../../src/runtime/runtime.js";
import { type Tensor, tidy } from "../../src/runtime/tensor.js";
import { fromFloats, fromInts, toFloats } from "../../src/runtime/transfer.js";

const floats = (...shape: number[]): Tensor => {
  const count = shape.reduce((product, size) => product * size, 1);
  return fromFloats(new Float32Array(count).fill(0.5), shape);
};
const ints = (...values: number[]): Tensor => fromInts(values, [values.length]);
const scalar = (value: number): Tensor => fromInts([value], []);

type Make = () => Tensor;

interface Kernel {
  readonly outputs: number;
  /** Valid inputs. */
  readonly inputs: readonly Make[];
  /** An input's index, an invalid replacement, and the expected error. */
  readonly wrong: readonly (readonly [number, Make, RegExp])[];
}

// Two videos of two and one frame; G 2, K 3, P 4, F 5. A panel of one group of at most 16 columns with the precision of floats has (2 + 3 + 2 * 3) * 16 floats
// if the processor multiplies bytes, else (1 + 5) * 16.
const panels = (count: number, more = 0): Tensor => floats(count * (runtime().native.byteInstructions ? 176 : 96) + more);
const COUNTS: Make = () => ints(2, 1);
const WRONG_COUNTS = (index: number): Kernel["wrong"] => [
  [index, () => ints(2, 2), /the frame counts add up to 4, expected 3/],
  [index, () => ints(4, -1), /video 1 has -1 frames/],
  [index, () => ints(2_000_000_000, 2_000_000_000), /too many frames/],
  [index, () => ints(), /add up to 0, expected 3/],
  [index, () => scalar(3), /has shape \[\], expected \[any\]/],
];
const ADAM: Make = () => ints(0, 0, 0, 0, 0, 0);
const BYTES: Make = () => floats(4); // 16 bytes, of which 15 are used

const KERNELS: Readonly<Record<string, Kernel>> = {
  NextvladCopy: { outputs: 1, inputs: [() => floats(2, 3)], wrong: [] },
  NextvladDequantize: {
    outputs: 1,
    inputs: [BYTES, () => floats(5), () => floats(5), () => scalar(3)],
    wrong: [
      [0, () => floats(3), /input 0 has 12 bytes, expected 15/],
      [2, () => floats(4), /input 2 has shape \[4\], expected \[5\]/],
      [3, () => scalar(-1), /size 0 is -1/],
      [3, () => ints(3, 3), /input 3 has 2 values, expected 1/],
      [3, () => ints(), /input 3 has 0 values, expected 1/],
    ],
  },
  NextvladProduct: {
    outputs: 1,
    // Both transposed.
    inputs: [() => floats(4, 3), () => floats(5, 4), () => floats(), () => floats()],
    wrong: [
      [0, () => floats(12), /input 0 has shape \[12\], expected \[any, any\]/],
      [1, () => floats(20), /input 1 has shape \[20\], expected \[any, any\]/],
      [1, () => floats(4, 5), /the factors have 4 columns and 5 rows/],
      [2, () => floats(2), /input 2 has 2 values, expected 1/],
      [3, () => floats(0), /input 3 has 0 values, expected 1/],
    ],
  },
  NextvladPackDense: {
    outputs: 1,
    inputs: [() => floats(4, 5)],
    wrong: [[0, () => floats(20), /input 0 has shape \[20\], expected \[any, any\]/]],
  },
  NextvladFrozenDense: {
    outputs: 1,
    inputs: [() => floats(3, 4), () => packDense(floats(4, 5)), () => floats(5), () => floats()],
    wrong: [
      [0, () => floats(12), /input 0 has shape \[12\], expected \[any, any\]/],
      // A panel has 8, 16 or 32 columns.
      [0, () => floats(3, 5), /input 1 has (32 values, expected 40|64 values, expected 80|128 values, expected 160)/],
      [1, () => packDense(floats(4, 50)), /input 1 has \d+ values, expected (32|64|128)/],
      [2, () => floats(5, 1), /input 2 has shape \[5, 1\], expected \[any\]/],
      [3, () => floats(2), /input 3 has 2 values, expected 1/],
    ],
  },
  NextvladSigmoid: { outputs: 1, inputs: [() => floats(2, 3)], wrong: [] },
  NextvladGate: {
    outputs: 2,
    inputs: [() => floats(2, 3), () => floats(2, 3)],
    wrong: [[1, () => floats(3, 2), /input 1 has shape \[3, 2\], expected \[2, 3\]/]],
  },
  NextvladGateGradient: {
    outputs: 1,
    inputs: [() => floats(2, 3), () => floats(2, 3), () => floats(2, 3)],
    wrong: [
      [1, () => floats(6), /input 1 has shape \[6\], expected \[2, 3\]/],
      [2, () => floats(3, 2), /input 2/],
    ],
  },
  NextvladGateInputGradient: {
    outputs: 1,
    inputs: [() => floats(2, 3), () => floats(2, 3), () => floats(2, 3)],
    wrong: [
      [1, () => floats(6), /input 1 has shape \[6\], expected \[2, 3\]/],
      [2, () => floats(3, 2), /input 2/],
    ],
  },
  NextvladDropout: {
    outputs: 1,
    inputs: [() => floats(2, 3), () => ints(1, 2), () => floats()],
    wrong: [
      [1, () => ints(1), /input 1 has shape \[1\], expected \[2\]/],
      [2, () => floats(2), /input 2 has 2 values, expected 1/],
    ],
  },
  NextvladDense: {
    outputs: 1,
    inputs: [() => floats(3, 4), () => floats(4, 5)],
    wrong: [
      [0, () => floats(3, 5), /input 1 has shape \[4, 5\], expected \[5, any\]/],
      [0, () => floats(12), /input 0 has shape \[12\], expected \[any, any\]/],
      [1, () => floats(4, 5, 1), /input 1/],
    ],
  },
  NextvladDenseAdam: {
    outputs: 1,
    inputs: [() => floats(3, 4), () => floats(3, 5), () => floats(4, 5), () => floats(4, 5), () => floats(4, 5), ADAM],
    wrong: [
      [1, () => floats(2, 5), /input 1 has shape \[2, 5\], expected \[3, any\]/],
      [2, () => floats(5, 4), /input 2 has shape \[5, 4\], expected \[4, 5\]/],
      [3, () => floats(4, 4), /input 3/],
      [4, () => floats(20), /input 4/],
      [5, () => ints(0, 0, 0, 0, 0), /input 5 has shape \[5\], expected \[6\]/],
    ],
  },
  NextvladDenseGradient: {
    outputs: 1,
    inputs: [() => floats(3, 4), () => floats(3, 5), () => floats(4, 5), () => floats(4, 5), () => floats(4, 5), ADAM],
    wrong: [[2, () => floats(5, 4), /input 2 has shape \[5, 4\], expected \[4, 5\]/]],
  },
  NextvladDenseUpdate: {
    outputs: 0,
    inputs: [() => floats(3, 4), () => floats(3, 5), () => floats(4, 5), () => floats(4, 5), () => floats(4, 5), ADAM],
    wrong: [[2, () => floats(5, 4), /input 2 has shape \[5, 4\], expected \[4, 5\]/]],
  },
  NextvladAdam: {
    outputs: 0,
    inputs: [() => floats(2, 3), () => floats(2, 3), () => floats(2, 3), () => floats(2, 3), ADAM],
    wrong: [
      [1, () => floats(2, 2), /input 1 has 4 values, expected 6/],
      [2, () => floats(7), /input 2/],
      [3, () => floats(), /input 3/],
      [4, () => ints(), /input 4/],
    ],
  },
  NextvladBlend: {
    outputs: 0,
    inputs: [() => floats(3), () => floats(3), () => floats()],
    wrong: [
      [1, () => floats(2), /input 1/],
      [2, () => floats(0), /input 2 has 0 values, expected 1/],
    ],
  },
  NextvladMoments: {
    outputs: 1,
    inputs: [() => floats(3, 6)],
    wrong: [
      [0, () => floats(18), /input 0 has shape \[18\], expected \[any, any\]/],
      [0, () => floats(0, 6), /the batch has no rows/],
    ],
  },
  NextvladAssign: {
    outputs: 6,
    inputs: [() => floats(3, 6), () => floats(3, 2), () => floats(2, 6, 3), () => floats(6), () => floats(6), COUNTS, () => floats()],
    wrong: [
      [0, () => floats(3, 7), /7 columns do not split into 2 groups/],
      [0, () => floats(18), /input 0/],
      [1, () => floats(4, 2), /input 1 has shape \[4, 2\], expected \[3, any\]/],
      [1, () => floats(3, 0), /6 columns do not split into 0 groups/],
      [2, () => floats(2, 5, 3), /input 2 has shape \[2, 5, 3\], expected \[any, 6, 3\]/],
      [2, () => floats(0, 6, 3), /the batch has no moments/],
      [3, () => floats(5), /input 3 has shape \[5\], expected \[6\]/],
      [4, () => floats(7), /input 4/],
      [6, () => floats(0), /input 6/],
      ...WRONG_COUNTS(5),
    ],
  },
  NextvladAssignFrozen: {
    outputs: 2,
    inputs: [() => floats(3, 6), () => floats(3, 2), () => floats(6), () => floats(6), COUNTS],
    wrong: [
      [1, () => floats(3, 0), /6 columns do not split into 0 groups/],
      [2, () => floats(1), /input 2/],
      [3, () => floats(6, 1), /input 3/],
      ...WRONG_COUNTS(4),
    ],
  },
  NextvladAssignGradient: {
    outputs: 4,
    inputs: [
      () => floats(6, 3),
      () => floats(2, 6),
      () => floats(6, 3),
      () => floats(3, 2),
      () => floats(3, 6),
      () => floats(6),
      () => floats(6),
      COUNTS,
    ],
    wrong: [
      [0, () => floats(5, 3), /input 0 has shape \[5, 3\], expected \[6, 3\]/],
      [1, () => floats(3, 6), /input 1/],
      [2, () => floats(6, 2), /input 2/],
      [3, () => floats(3, 0), /6 columns do not split into 0 groups/],
      [4, () => floats(2, 6), /input 3/],
      [5, () => floats(5), /input 5/],
      [6, () => floats(5), /input 6/],
      ...WRONG_COUNTS(7),
    ],
  },
  NextvladLogitsGradient: {
    outputs: 1,
    inputs: [
      () => floats(3, 6),
      () => floats(3, 6),
      () => floats(6),
      () => floats(6),
      () => floats(6),
      () => floats(6),
      () => floats(6),
      () => ints(3),
    ],
    wrong: [
      [0, () => floats(18), /input 0/],
      [1, () => floats(3, 5), /input 1 has shape \[3, 5\], expected \[3, 6\]/],
      [2, () => floats(5), /input 2/],
      [3, () => floats(5), /input 3/],
      [4, () => floats(5), /input 4/],
      [5, () => floats(5), /input 5/],
      [6, () => floats(5), /input 6/],
      [7, () => ints(1, 2), /input 7 has 2 values, expected 1/],
    ],
  },
  NextvladFrameSums: {
    outputs: 1,
    inputs: [() => floats(3, 8), () => floats(6, 3), COUNTS],
    wrong: [
      [0, () => floats(0, 8), /6 rows of assignment for 0 frames/],
      [0, () => floats(3, 7), /7 columns do not split into 2 groups/],
      [1, () => floats(7, 3), /7 rows of assignment for 3 frames/],
      [1, () => floats(0, 3), /0 rows of assignment/],
      ...WRONG_COUNTS(2),
    ],
  },
  NextvladFrameSumsGradient: {
    outputs: 2,
    inputs: [() => floats(2, 4, 3), () => floats(3, 8), () => floats(6, 3), COUNTS],
    wrong: [
      [0, () => floats(2, 3, 4), /input 0 has shape \[2, 3, 4\], expected \[2, 4, 3\]/],
      [0, () => floats(24), /input 0/],
      ...WRONG_COUNTS(3),
    ],
  },
  NextvladSplit: {
    outputs: 1,
    inputs: [() => floats(5, 6), () => floats(6), () => floats(5), () => floats(5), () => ints(2, 3)],
    wrong: [
      [0, () => floats(30), /input 0/],
      [1, () => floats(5), /input 1/],
      [2, () => floats(6), /input 2/],
      [3, () => floats(6), /input 3/],
      [4, () => ints(4, 3), /6 columns do not split into 4 groups/],
      [4, () => ints(0, 3), /size 0 is 0/],
      [4, () => ints(2, 0), /size 1 is 0/],
      [4, () => ints(2, 4), /a weight has 4 terms, expected 1 to 3/],
      [4, () => ints(2), /input 4 has 1 values, expected 2/],
    ],
  },
  NextvladByteProduct: {
    outputs: 1,
    inputs: [BYTES, () => panels(1), () => ints(3, 5, 6, 3)],
    wrong: [
      [0, () => floats(3), /input 0 has 12 bytes, expected 15/],
      [1, () => panels(1, 1), /input 1 has (177 values, expected 176|97 values, expected 96)/],
      [2, () => ints(3, 5, 6), /input 2 has 3 values, expected 4/],
      [2, () => ints(3, -5, 6, 3), /size 1 is -5/],
      [2, () => ints(0, 5, 6, 3), /size 0 is 0/],
      [2, () => ints(3, 5, 6, 4), /a weight has 4 terms, expected 1 to 3/],
    ],
  },
  NextvladByteProductTransposed: {
    outputs: 1,
    inputs: [BYTES, () => floats(3, 6), () => floats(5), () => floats(5)],
    wrong: [
      [0, () => floats(3), /input 0 has 12 bytes, expected 15/],
      [1, () => floats(18), /input 1/],
      [3, () => floats(4), /input 3/],
    ],
  },
  NextvladFrames: {
    outputs: 1,
    inputs: [
      BYTES,
      COUNTS,
      () => panels(2),
      () => panels(1),
      () => panels(2),
      () => floats(4, 3),
      () => floats(12),
      () => floats(12),
      () => floats(),
      () => ints(5, 2, 3, 4, 3),
    ],
    wrong: [
      [0, () => floats(3), /input 0 has 12 bytes, expected 15/],
      [1, () => ints(2, 2), /input 0 has 16 bytes, expected 20/],
      [1, () => ints(4, -1), /video 1 has -1 frames/],
      [2, () => panels(1), /input 2/],
      [3, () => floats(1), /input 3/],
      [4, () => panels(1), /input 4/],
      [5, () => floats(3, 4), /input 5 has shape \[3, 4\], expected \[4, 3\]/],
      [6, () => floats(4, 3), /input 6 has shape \[4, 3\], expected \[12\]/],
      [7, () => floats(11), /input 7 has shape \[11\], expected \[12\]/],
      [8, () => floats(2), /input 8 has 2 values, expected 1/],
      [9, () => ints(5, 2, 3, 4), /input 9 has 4 values, expected 5/],
      [9, () => ints(5, 2, 3, 4, 4), /a weight has 4 terms, expected 1 to 3/],
      [9, () => ints(5, 0, 3, 4, 3), /size 1 is 0/],
    ],
  },
  NextvladDescribe: {
    outputs: 2,
    inputs: [() => floats(2, 4, 3), () => floats(2, 6), () => floats(8), () => floats(3, 4), () => floats(1)],
    wrong: [
      [0, () => floats(2, 3, 4), /input 0 has shape \[2, 3, 4\], expected \[2, 4, 3\]/],
      [0, () => floats(24), /input 0/],
      [1, () => floats(2, 5), /5 columns do not split into groups of 3 clusters/],
      [1, () => floats(2, 0), /0 columns do not split into groups of 3 clusters/],
      [2, () => floats(4), /input 2 has shape \[4\], expected \[8\]/],
      [3, () => floats(0, 4), /6 columns do not split into groups of 0 clusters/],
      [4, () => floats(2), /input 4 has 2 values, expected 1/],
    ],
  },
  NextvladDescribeGradient: {
    outputs: 4,
    inputs: [() => floats(2, 12), () => floats(2, 12), () => floats(2, 3), () => floats(2, 6), () => floats(8), () => floats(3, 4)],
    wrong: [
      [0, () => floats(2, 11), /input 0 has shape \[2, 11\], expected \[2, 12\]/],
      [1, () => floats(24), /input 1/],
      [2, () => floats(2, 4), /input 2 has shape \[2, 4\], expected \[2, 3\]/],
      [3, () => floats(2, 5), /5 columns do not split into groups of 3 clusters/],
      [4, () => floats(7), /input 4/],
      [5, () => floats(12), /input 5/],
    ],
  },
  NextvladBatchNorm: {
    outputs: 4,
    inputs: [() => floats(3, 5), () => floats(5), () => floats(5), () => floats(1)],
    wrong: [
      [0, () => floats(0, 5), /the batch has no rows/],
      [0, () => floats(15), /input 0 has shape \[15\], expected \[any, any\]/],
      [1, () => floats(4), /input 1 has shape \[4\], expected \[5\]/],
      [2, () => floats(6), /input 2/],
      [3, () => floats(0), /input 3/],
    ],
  },
  NextvladBatchNormGradient: {
    outputs: 3,
    inputs: [() => floats(3, 5), () => floats(3, 5), () => floats(5), () => floats(5), () => floats(5)],
    wrong: [
      [0, () => floats(3, 4), /input 0 has shape \[3, 4\], expected \[3, 5\]/],
      [1, () => floats(0, 5), /the batch has no rows/],
      [2, () => floats(4), /input 2/],
      [3, () => floats(4), /input 3/],
      [4, () => floats(6), /input 4/],
    ],
  },
};

describe("CPU kernels with mismatched inputs", () => {
  before(() => loadTensorflow(false));

  for (const [name, { inputs, outputs, wrong }] of Object.entries(KERNELS)) {
    test(`${name} accepts valid inputs, and fails with a message for ${wrong.length} invalid ones`, () =>
      tidy(() => {
        const computed = runMany(
          name,
          () => [],
          inputs.map((make) => make()),
          outputs,
        );
        assert.equal(computed.length, outputs);
        // A panel's floats carry integers.
        for (const output of computed) assert.ok(toFloats(output).every((value) => Number.isFinite(value) || name === "NextvladSplit"));
        for (const [index, make, message] of wrong) {
          const given = inputs.map((input, i) => (i === index ? make() : input()));
          assert.throws(
            () => runMany(name, () => [], given, outputs),
            (error) => {
              assert.ok(error instanceof NextvladError && error.code === "KERNEL_FAILED");
              assert.match(error.message, new RegExp(`the kernel ${name} with inputs .* failed: `));
              assert.match(error.message, message);
              return true;
            },
          );
        }
      }));
  }
});
