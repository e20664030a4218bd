import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import fc from "fast-check";
import { describeByteFrames, multiplyBytes, multiplyBytesTransposed, splitWeights, type Terms } from "../../src/kernels/native-ops.js";
import { matMul, statelessNormal } from "../../src/kernels/tensorflow-ops.js";
import type { Quantization } from "../../src/kernels/types.js";
import { loadTensorflow } from "../../src/runtime/runtime.js";
import { type Tensor, tidy } from "../../src/runtime/tensor.js";
import { byteCarrier, fromFloats, toFloats } from "../../src/runtime/transfer.js";
import { rootMeanSquare } from "../helpers/blocks.js";

type Rows = (row: number, column: number) => number;

/** Numbers that look like an eigen factor's: each feature has its own scale. */
function quantization(features: number): { tensors: Quantization; x: (bytes: Uint8Array) => Rows } {
  const scale = Float32Array.from({ length: features }, (_, f) => Math.fround((4 / 255) * (0.2 + ((f * 37) % 11))));
  const offset = Float32Array.from({ length: features }, (_, f) => Math.fround(-2 * (0.2 + ((f * 37) % 11))));
  return {
    tensors: { scale: fromFloats(scale, [features]), offset: fromFloats(offset, [features]) },
    x: (bytes) => (t, f) => (bytes[t * features + f] as number) * (scale[f] as number) + (offset[f] as number),
  };
}

const randomBytes = (count: number): Uint8Array =>
  Uint8Array.from({ length: count }, (_, i) => (Math.imul(i + 1, 2654435761) >>> 13) & 255);

const rowsOf = (values: Float32Array, columns: number): Rows => {
  return (row, column) => values[row * columns + column] as number;
};

const normal = (shape: readonly number[], stream: number): Tensor => statelessNormal(shape, [5, stream]);

/** a b in float64. */
function product(a: Rows, b: Rows, rows: number, inner: number, columns: number): Float64Array {
  const result = new Float64Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    for (let k = 0; k < inner; k++) {
      const value = a(i, k);
      for (let j = 0; j < columns; j++) result[i * columns + j] = (result[i * columns + j] as number) + value * b(k, j);
    }
  }
  return result;
}

const errorOf = (ours: Float32Array, exact: Float64Array): number => rootMeanSquare(exact.map((value, i) => value - (ours[i] as number)));

const size = (max: number): fc.Arbitrary<number> => fc.oneof(fc.integer({ min: 1, max }), fc.constantFrom(1, 4, 8, 15, 16, 17, 32, 33));

describe("products of bytes", () => {
  before(() => loadTensorflow(false));

  test("are as exact as TensorFlow's float products, at the sizes of the published model", () => {
    const [frames, features, columns] = [40, 1024, 48];
    tidy(() => {
      const { tensors, x } = quantization(features);
      const bytes = randomBytes(frames * features);
      const [carrier, features32] = [byteCarrier(bytes, bytes.length), x(bytes)];
      const floats = Float32Array.from({ length: frames * features }, (_, i) => features32(Math.floor(i / features), i % features));
      const [w, bias, d] = [normal([features, columns], 1), normal([columns], 2), normal([frames, columns], 3)];
      const xTensor = fromFloats(floats, [frames, features]);

      const exact = product(features32, rowsOf(toFloats(w), columns), frames, features, columns);
      const float = errorOf(toFloats(matMul(xTensor, w)), exact);
      const withBias = toFloats(multiplyBytes(carrier, frames, splitWeights(w, bias, tensors, 1, 3)));
      const biases = toFloats(bias);
      const ours = errorOf(
        withBias,
        exact.map((value, i) => value + (biases[i % columns] as number)),
      );
      // Both errors are about 1e-7 of the result; with one term less, ours would be 100 times larger.
      assert.ok(ours < 2 * float, `x w: ${ours}, and ${float} by floats`);

      const back = product((f, t) => features32(t, f), rowsOf(toFloats(d), columns), features, frames, columns);
      const floatBack = errorOf(toFloats(matMul(xTensor, d, { transposeA: true })), back);
      const oursBack = errorOf(toFloats(multiplyBytesTransposed(carrier, d, tensors)), back);
      assert.ok(oursBack < 2 * floatBack, `x^T d: ${oursBack}, and ${floatBack} by floats`);
    });
  });

  test("work for every size", () => {
    fc.assert(
      fc.property(size(900), size(40), size(70), (frames, features, columns) =>
        tidy(() => {
          const { tensors, x } = quantization(features);
          const bytes = randomBytes(frames * features);
          const carrier = byteCarrier(bytes, bytes.length);
          const [w, bias, d] = [
            normal([features, columns], 1),
            fromFloats(new Float32Array(columns), [columns]),
            normal([frames, columns], 3),
          ];
          const forward = product(x(bytes), rowsOf(toFloats(w), columns), frames, features, columns);
          const ours = toFloats(multiplyBytes(carrier, frames, splitWeights(w, bias, tensors, 1, 3)));
          // 1e-6 of the values' size: a float's error, with room for the largest sums.
          assert.ok(errorOf(ours, forward) < 1e-6 * (1 + 10 * rootMeanSquare(forward)));
          const backward = product((f, t) => x(bytes)(t, f), rowsOf(toFloats(d), columns), features, frames, columns);
          const back = toFloats(multiplyBytesTransposed(carrier, d, tensors));
          assert.ok(errorOf(back, backward) < 1e-6 * (1 + 10 * rootMeanSquare(backward)));
        }),
      ),
      { numRuns: 25 },
    );
  });

  test("describe the videos of a ragged batch as a plain loop does, at each precision", () => {
    // Few videos, whose groups are divided, and many short ones, some without frames, which are multiplied together.
    const counts = fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1, maxLength: 40 });
    const bounds: Readonly<Record<Terms, number>> = { 1: 5e-2, 2: 3e-4, 3: 4e-6 };
    fc.assert(
      fc.property(counts, size(20), fc.integer({ min: 1, max: 20 }), size(40), size(20), fc.constantFrom<Terms>(1, 2, 3), (...sizes) =>
        tidy(() => {
          const [frameCounts, features, groups, clusters, groupSize, terms] = sizes;
          const { tensors, x } = quantization(features);
          const frames = frameCounts.reduce((sum, count) => sum + count, 0);
          const bytes = randomBytes(frames * features);
          const widths = { clusters: groups * clusters, attention: groups, expansion: groups * groupSize };
          const weights = Object.entries(widths).map(([name, columns], i) => {
            const [w, bias] = [normal([features, columns], i), normal([columns], 10 + i)].map((tensor) => toFloats(tensor));
            // Small enough that the softmax does not amplify a term's error.
            const small = (w as Float32Array).map((value) => value / (20 * features));
            return { name, columns, w: small, bias: bias as Float32Array };
          });
          const panels = Object.fromEntries(
            weights.map(({ name, columns, w, bias }) => {
              const matrix = fromFloats(w, [features, columns]);
              return [name, splitWeights(matrix, fromFloats(bias, [columns]), tensors, name === "attention" ? 1 : groups, terms)];
            }),
          );
          const values = clusters * groupSize;
          const [centers, scale, shift] = [normal([groupSize, clusters], 20), normal([values], 21), normal([values], 22)];
          const framePanels = {
            clusters: panels.clusters as never,
            attention: panels.attention as never,
            expansion: panels.expansion as never,
          };
          // Descriptors as short as a video's without frames are not scaled to length 1.
          const epsilon = 0.01;
          const found = describeByteFrames(bytes, Int32Array.from(frameCounts), framePanels, { centers, norm: { scale, shift }, epsilon });
          const [logits, attention, expanded] = weights.map(({ columns, w, bias }) =>
            product(x(bytes), rowsOf(w, columns), frames, features, columns).map((value, i) => value + (bias[i % columns] as number)),
          ) as [Float64Array, Float64Array, Float64Array];
          const expected = sumPlainly(frameCounts, { logits, attention, expanded, groups, clusters, groupSize });
          const [c, s, b] = [centers, scale, shift].map((tensor) => toFloats(tensor)) as [Float32Array, Float32Array, Float32Array];
          const described = describePlainly(expected, { videos: frameCounts.length, groups, clusters, groupSize, centers: c, epsilon });
          const normalized = described.map((value, i) => value * (s[i % values] as number) + (b[i % values] as number));
          assertNear(toFloats(found), normalized, bounds[terms], "the descriptors");
        }),
      ),
      { numRuns: 40 },
    );
  });
});

interface Plain {
  readonly logits: Float64Array;
  readonly attention: Float64Array;
  readonly expanded: Float64Array;
  readonly groups: number;
  readonly clusters: number;
  readonly groupSize: number;
}

function sumPlainly(frameCounts: readonly number[], { logits, attention, expanded, groups, clusters, groupSize }: Plain) {
  const sums = new Float64Array(frameCounts.length * groupSize * clusters);
  const aSum = new Float64Array(frameCounts.length * groups * clusters);
  let t = 0;
  for (const [video, count] of frameCounts.entries()) {
    for (const last = t + count; t < last; t++) {
      for (let g = 0; g < groups; g++) {
        const powers = logits.subarray((t * groups + g) * clusters, (t * groups + g + 1) * clusters).map(Math.exp);
        const gate = 1 / (1 + Math.exp(-(attention[t * groups + g] as number)));
        const total = powers.reduce((sum, power) => sum + power, 0);
        for (const [k, power] of powers.entries()) {
          const a = (power / total) * gate;
          aSum[(video * groups + g) * clusters + k] = (aSum[(video * groups + g) * clusters + k] as number) + a;
          for (let p = 0; p < groupSize; p++) {
            const at = (video * groupSize + p) * clusters + k;
            sums[at] = (sums[at] as number) + a * (expanded[(t * groups + g) * groupSize + p] as number);
          }
        }
      }
    }
  }
  return { sums, aSum };
}

/** The sums minus the centers, with each cluster's part scaled by 1 / sqrt(length^2 + epsilon). */
function describePlainly(
  { sums, aSum }: ReturnType<typeof sumPlainly>,
  size: Pick<Plain, "groups" | "clusters" | "groupSize"> & {
    readonly videos: number;
    readonly centers: Float32Array;
    readonly epsilon: number;
  },
): Float64Array {
  const { videos, groups, clusters, groupSize, centers, epsilon } = size;
  const described = new Float64Array(sums.length);
  for (let video = 0; video < videos; video++) {
    for (let k = 0; k < clusters; k++) {
      let total = 0;
      for (let g = 0; g < groups; g++) total += aSum[(video * groups + g) * clusters + k] as number;
      const parts = Array.from({ length: groupSize }, (_, p) => {
        const at = p * clusters + k;
        return (sums[video * groupSize * clusters + at] as number) - total * (centers[at] as number);
      });
      const length = Math.sqrt(parts.reduce((sum, value) => sum + value * value, epsilon));
      for (const [p, value] of parts.entries()) described[(video * groupSize + p) * clusters + k] = value / length;
    }
  }
  return described;
}

function assertNear(ours: Float32Array, expected: Float64Array, bound: number, what: string): void {
  assert.equal(ours.length, expected.length);
  const scale = 1 + rootMeanSquare(expected);
  for (const [i, value] of expected.entries())
    assert.ok(Math.abs(value - (ours[i] as number)) <= bound * scale, `${what} at ${i}: ${ours[i]} for ${value}`);
}
