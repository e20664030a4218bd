import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import fc from "fast-check";
import { cpuKernels } from "../../src/kernels/cpu.js";
import {
  dequantize,
  gate,
  maskValues,
  multiplyFewRows,
  multiplyMatrices,
  sigmoidOnePass,
  sumFrames,
  sumFramesGradient,
} from "../../src/kernels/native-ops.js";
import { REFERENCE } from "../../src/kernels/reference.js";
import {
  add,
  fromBytes,
  matMul,
  multiply,
  reshape,
  slice,
  statelessNormal,
  statelessUniform,
  stepAt,
} from "../../src/kernels/tensorflow-ops.js";
import type { Activation, Affine } from "../../src/kernels/types.js";
import { countTensors } from "../../src/runtime/constants.js";
import { loadTensorflow } from "../../src/runtime/runtime.js";
import { type Tensor, tidy } from "../../src/runtime/tensor.js";
import { fromFloats, scalar, toFloats } from "../../src/runtime/transfer.js";
import { DeviceVariable } from "../../src/runtime/variables.js";

/** Sizes around the edges of tiles (16 or 64 columns, 4 or 6 rows or examples, blocks of 128 rows) and vectors (8 or 16). */
const size = (max: number): fc.Arbitrary<number> =>
  fc.oneof(fc.integer({ min: 1, max }), fc.constantFrom(1, 4, 6, 7, 8, 15, 16, 17, 63, 64, 65, 128, 129));

const normal = (shape: readonly number[], stream: number): Tensor => statelessNormal(shape, [11, stream]);

/**
 * What two orders of a sum of `terms` products of normal numbers may differ by. Its partial sums grow to sqrt(terms), and
 * each addition rounds by up to 2^-24 of them: added one by one, a standard deviation of about 2^-24 * terms. Eight of them.
 */
const sumRounding = (terms: number): number => 2 ** -21 * terms;

/** Compares each value: `bound` for the sums behind it, and eight roundings of the value itself. */
function assertClose(ours: Float32Array, theirs: Float32Array, bound: number): void {
  assert.equal(ours.length, theirs.length);
  for (const [i, value] of ours.entries())
    assert.ok(Math.abs(value - (theirs[i] as number)) < bound + 2 ** -21 * Math.abs(value), `at ${i}: ${value} and ${theirs[i]}`);
}

describe("the kernels of native/ compared with TensorFlow's", () => {
  before(() => loadTensorflow(false));

  test("a product of few rows and a matrix, of any size", () => {
    fc.assert(
      fc.property(size(70), size(300), size(200), (examples, rows, columns) =>
        tidy(() => {
          const [x, w] = [normal([examples, rows], 1), normal([rows, columns], 2)];
          assertClose(toFloats(multiplyFewRows(x, w)), toFloats(matMul(x, w)), sumRounding(rows));
        }),
      ),
      { numRuns: 60 },
    );
  });

  test("a product of two matrices, each as it is or transposed, of any size", () => {
    fc.assert(
      fc.property(size(250), size(450), size(600), fc.boolean(), fc.boolean(), (rows, terms, columns, transposeA, transposeB) =>
        tidy(() => {
          const a = normal(transposeA ? [terms, rows] : [rows, terms], 1);
          const b = normal(transposeB ? [columns, terms] : [terms, columns], 2);
          const options = { transposeA, transposeB };
          assertClose(toFloats(multiplyMatrices(a, b, options)), toFloats(matMul(a, b, options)), sumRounding(terms));
        }),
      ),
      { numRuns: 60 },
    );
    assert.deepEqual([...tidy(() => toFloats(multiplyMatrices(normal([2, 0], 1), normal([0, 3], 2))))], [0, 0, 0, 0, 0, 0]);
    assert.throws(() => tidy(() => multiplyMatrices(normal([2, 3], 1), normal([4, 5], 2))), {
      code: "KERNEL_FAILED",
      message: /the factors have 3 columns and 4 rows/,
    });
  });

  test("a product with frozen weights, with and without a scale, a shift and ReLU, of any size", () => {
    const sizes = [size(400), size(450), size(300)] as const;
    fc.assert(
      fc.property(
        ...sizes,
        fc.boolean(),
        fc.boolean(),
        fc.constantFrom<Activation>("linear", "relu"),
        fc.constantFrom(1, 3),
        (rows, terms, columns, withScale, withShift, activation, minPackedRows) => {
          const w = new DeviceVariable("w", [terms, columns]);
          w.upload(tidy(() => toFloats(normal([terms, columns], 2))));
          const affine = (): Partial<Affine> => ({
            // Below 1: a larger scale would amplify the rounding of a sum.
            ...(withScale ? { scale: statelessUniform([columns], [1, 3]) } : {}),
            ...(withShift ? { shift: normal([columns], 4) } : {}),
          });
          const ours = cpuKernels({ bytesInTraining: () => false, matMul: () => "tensorflow", minPackedRows: () => minPackedRows });
          const before = countTensors();
          const layers = [ours, REFERENCE].map((kernels) => tidy(() => kernels.freezeDense(w, affine())));
          const [found, expected] = layers.map((layer) => tidy(() => toFloats(layer.apply(normal([rows, terms], 1), activation))));
          assertClose(found as Float32Array, expected as Float32Array, sumRounding(terms));
          for (const layer of layers) layer.dispose();
          assert.equal(countTensors(), before);
          w.dispose();
        },
      ),
      { numRuns: 60 },
    );
  });

  test("a sigmoid and context gating, of values of any size", () => {
    const values = Float32Array.of(
      0,
      -0.001,
      1,
      -1,
      10,
      -10,
      17,
      -17,
      88,
      -88,
      104,
      -104,
      3e38,
      -3e38,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
    );
    fc.assert(
      fc.property(size(3000), (count) =>
        tidy(() => {
          const x = Float32Array.from({ length: count }, (_, i) => values[i % values.length] as number);
          const h = normal([count], 1);
          const e = fromFloats(x, [count]);
          const { y, gates } = gate(h, e);
          const found = { sigmoid: toFloats(sigmoidOnePass(e)), gates: toFloats(gates), y: toFloats(y) };
          for (const [i, h_i] of toFloats(h).entries()) {
            const s = 1 / (1 + Math.exp(-(x[i] as number)));
            // Eight roundings, and the smallest power of e that is computed.
            const bound = 2 ** -21 * s + 1.001 * Math.exp(-87);
            assert.ok(Math.abs((found.sigmoid[i] as number) - s) <= bound, `sigmoid(${x[i]}) is ${found.sigmoid[i]}, not ${s}`);
            assert.equal(found.gates[i], found.sigmoid[i]);
            // Below the smallest normal float, a product may be zero.
            assert.ok(Math.abs((found.y[i] as number) - Math.fround(h_i * (found.gates[i] as number))) <= 2 ** -126);
          }
        }),
      ),
      { numRuns: 20 },
    );
    assert.ok(Number.isNaN(tidy(() => toFloats(sigmoidOnePass(fromFloats(Float32Array.of(Number.NaN), [1]))))[0]));
  });

  test("a dense layer's backward pass and Adam step, of any size", () => {
    fc.assert(
      fc.property(size(250), size(140), size(450), fc.constantFrom(0, 0.1), (examples, rows, columns, decay) => {
        const powers = { beta1Power: 0.9 ** 3, beta2Power: 0.999 ** 3 };
        const c = { learningRate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, ...powers, weightDecay: 2 };
        const made = () =>
          ["w", "m", "v"].map((name) => new DeviceVariable(name, [rows, columns])) as [DeviceVariable, DeviceVariable, DeviceVariable];
        const [ours, theirs, inTwoPasses] = [made(), made(), made()];
        tidy(() => {
          const [x, dy] = [normal([examples, rows], 3), normal([examples, columns], 4)];
          // A second moment near zero would amplify rounding by a factor of 1000.
          const values = [
            normal([rows, columns], 5),
            normal([rows, columns], 6),
            add(multiply(normal([rows, columns], 7), normal([rows, columns], 7)), scalar(0.1)),
          ];
          for (const [i, value] of values.entries())
            for (const set of [ours, theirs, inTwoPasses]) (set[i] as DeviceVariable).upload(toFloats(value));
          const back = toFloats(ours[0].applyProductAdam(ours[1], ours[2], x, dy, c, decay));
          let early: Float32Array | null = null;
          const again = inTwoPasses[0].applyProductAdam(inTwoPasses[1], inTwoPasses[2], x, dy, c, decay, (dx) => {
            early = toFloats(dx).slice();
            assert.deepEqual(inTwoPasses[0].download(), toFloats(values[0] as Tensor), "before the update");
          });
          assert.deepEqual([early, toFloats(again)], [back, back]);
          assertClose(back, toFloats(matMul(dy, values[0] as Tensor, { transposeB: true })), sumRounding(columns));
          const gradient = add(matMul(x, dy, { transposeA: true }), multiply(values[0] as Tensor, scalar(decay)));
          theirs[0].applyAdam(theirs[1], theirs[2], gradient, c, 0);
        });
        for (const [i, variable] of ours.entries()) {
          assertClose(variable.download(), (theirs[i] as DeviceVariable).download(), 2e-6 * Math.sqrt(examples) + 1e-6);
          assert.deepEqual(inTwoPasses[i]?.download(), variable.download());
          for (const other of [variable, theirs[i], inTwoPasses[i]]) other?.dispose();
        }
      }),
      { numRuns: 40 },
    );
  });

  test("dropout, bit for bit, of any size and seed", () => {
    const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
    fc.assert(
      fc.property(size(3000), fc.tuple(word, word), fc.constantFrom(0.1, 0.5, 0.9), (count, seed, rate) =>
        tidy(() => {
          const x = normal([count], 8);
          const expected = multiply(x, stepAt(statelessUniform([count], seed), scalar(rate)));
          assert.deepEqual(toFloats(maskValues(x, rate, seed)), toFloats(expected));
        }),
      ),
      { numRuns: 60 },
    );
  });

  test("the sums of a video without frames are zero", () => {
    tidy(() => {
      const [x, a] = [normal([3, 8], 1), normal([6, 5], 2)];
      const sums = toFloats(sumFrames(x, a, Int32Array.of(2, 0, 1)));
      assert.deepEqual(sums.subarray(20, 40), new Float32Array(20));
      assert.ok(sums.subarray(0, 20).every((sum) => sum !== 0));
    });
  });

  test("the sums over a ragged batch's frames and their gradient, of any size", () => {
    const counts = fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 6 });
    fc.assert(
      fc.property(counts, fc.integer({ min: 1, max: 9 }), size(70), size(140), (frameCounts, groups, groupSize, clusters) =>
        tidy(() => {
          const frames = frameCounts.reduce((sum, count) => sum + count, 0);
          const [x, a] = [normal([frames, groups * groupSize], 1), normal([frames * groups, clusters], 2)];
          const d = normal([frameCounts.length, groupSize, clusters], 3);
          const sums = toFloats(sumFrames(x, a, Int32Array.from(frameCounts)));
          const back = sumFramesGradient(d, x, a, Int32Array.from(frameCounts));
          const [dAssignment, dExpanded] = [toFloats(back.assignment), toFloats(back.x1)];
          const rowsOfX = reshape(x, [frames * groups, groupSize]);
          let row = 0;
          for (const [video, count] of frameCounts.entries()) {
            const rows = count * groups;
            const [vx, va] = [slice(rowsOfX, [row, 0], [rows, groupSize]), slice(a, [row, 0], [rows, clusters])];
            const vd = reshape(slice(d, [video, 0, 0], [1, groupSize, clusters]), [groupSize, clusters]);
            const part = (values: Float32Array, at: number, columns: number, length: number) =>
              values.subarray(at * columns, at * columns + length * columns);
            assertClose(
              part(sums, video * groupSize, clusters, groupSize),
              toFloats(matMul(vx, va, { transposeA: true })),
              sumRounding(rows),
            );
            assertClose(part(dAssignment, row, clusters, rows), toFloats(matMul(vx, vd)), sumRounding(groupSize));
            assertClose(part(dExpanded, row, groupSize, rows), toFloats(matMul(va, vd, { transposeB: true })), sumRounding(clusters));
            row += rows;
          }
        }),
      ),
      { numRuns: 40 },
    );
  });

  test("dequantization in one pass equals three operations", () => {
    fc.assert(
      fc.property(size(40), size(70), fc.nat(3), (frames, features, unaligned) =>
        tidy(() => {
          const bytes = Uint8Array.from({ length: frames * features + unaligned }, (_, i) => (i * 89) % 256).subarray(unaligned);
          const [scale, offset] = [normal([features], 8), normal([features], 9)];
          const ours = toFloats(dequantize(bytes, frames, { scale, offset }));
          const theirs = toFloats(add(multiply(fromBytes(bytes, frames, features), scale), offset));
          // One rounding less, where the compiler fuses the product with the sum: up to one unit in the last place of 255 * 4.
          for (const [i, value] of ours.entries()) assert.ok(Math.abs(value - (theirs[i] as number)) < 1.3e-4);
        }),
      ),
      { numRuns: 40 },
    );
  });
});
