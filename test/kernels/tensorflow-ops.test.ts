import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import * as kernels from "../../src/kernels/tensorflow-ops.js";
import { type Tensor, tidy } from "../../src/runtime/tensor.js";
import { fromFloats, fromInts, toFloats } from "../../src/runtime/transfer.js";
import { loadForTests } from "../helpers/device.js";

const VALUES = Float32Array.of(-2, -0.5, 0, 0.25, 1, 3);
const OTHERS = Float32Array.of(3, 0.5, 0, -4, 2, 0.125);
const tensor = (values: Float32Array, shape: readonly number[] = [values.length]): Tensor => fromFloats(values, shape);

/** Values and shape of what `compute` returns. */
function result(compute: () => Tensor): { values: number[]; shape: readonly number[] } {
  return tidy(() => {
    const made = compute();
    return { values: [...toFloats(made)], shape: made.shape };
  });
}

function assertNear(found: readonly number[], expected: readonly number[], name: string): void {
  assert.equal(found.length, expected.length, name);
  for (const [i, value] of found.entries()) {
    const wanted = expected[i] as number;
    assert.ok(
      Object.is(value, wanted) || Math.abs(value - wanted) <= 1e-6 * Math.max(1, Math.abs(wanted)),
      `${name}: ${found}, not ${expected}`,
    );
  }
}

describe("wrappers of TensorFlow's kernels", () => {
  before(() => loadForTests());

  const unary: Readonly<Record<string, [(x: Tensor) => Tensor, (x: number) => number]>> = {
    negate: [kernels.negate, (x) => -x],
    square: [kernels.square, (x) => x * x],
    rsqrt: [kernels.rsqrt, (x) => 1 / Math.sqrt(x)],
    sigmoid: [kernels.sigmoid, (x) => 1 / (1 + Math.exp(-x))],
    relu: [kernels.relu, (x) => Math.max(0, x)],
    softplus: [kernels.softplus, (x) => Math.log1p(Math.exp(x))],
    stepAt: [(x) => kernels.stepAt(x, fromFloats(Float32Array.of(0.25), [])), (x) => (x >= 0.25 ? 1 : 0)],
  };
  const binary: Readonly<Record<string, [(a: Tensor, b: Tensor) => Tensor, (a: number, b: number) => number]>> = {
    add: [kernels.add, (a, b) => a + b],
    subtract: [kernels.subtract, (a, b) => a - b],
    multiply: [kernels.multiply, (a, b) => a * b],
    divideNoNan: [kernels.divideNoNan, (a, b) => (b === 0 ? 0 : a / b)],
    minimum: [kernels.minimum, Math.min],
    addAll: [(a, b) => kernels.addAll([a, b, b]), (a, b) => a + b + b],
    sigmoidGradient: [kernels.sigmoidGradient, (y, dy) => dy * y * (1 - y)],
    reluGradient: [kernels.reluGradient, (dy, y) => (y > 0 ? dy : 0)],
  };

  test("elementwise operations", () => {
    for (const [name, [kernel, define]] of Object.entries(unary)) {
      const inputs = name === "rsqrt" ? VALUES.map(Math.abs).map((value) => value + 0.5) : VALUES;
      assertNear(result(() => kernel(tensor(inputs))).values, [...inputs].map(define), name);
    }
    for (const [name, [kernel, define]] of Object.entries(binary)) {
      const expected = [...VALUES].map((value, i) => define(value, OTHERS[i] as number));
      assertNear(result(() => kernel(tensor(VALUES), tensor(OTHERS))).values, expected, name);
    }
  });

  test("products of matrices and their transposes, single and batched", () => {
    // a: [2, 3], b: [3, 2].
    const product = (a: Float32Array, b: Float32Array): number[] =>
      [0, 1].flatMap((row) =>
        [0, 1].map((c) => [0, 1, 2].reduce((sum, i) => sum + (a[row * 3 + i] as number) * (b[i * 2 + c] as number), 0)),
      );
    const transposed = (x: Float32Array, rows: number): Float32Array =>
      Float32Array.from(x, (_, i) => x[(i % rows) * (x.length / rows) + Math.floor(i / rows)] as number);
    const twice = (x: Float32Array): Float32Array => Float32Array.of(...x, ...x.map((value) => value + 1));
    for (const transposeA of [false, true]) {
      for (const transposeB of [false, true]) {
        const [a, aShape] = transposeA ? [transposed(VALUES, 2), [3, 2]] : [VALUES, [2, 3]];
        const [b, bShape] = transposeB ? [transposed(OTHERS, 3), [2, 3]] : [OTHERS, [3, 2]];
        const one = result(() => kernels.matMul(tensor(a, aShape), tensor(b, bShape), { transposeA, transposeB }));
        assertNear(one.values, product(VALUES, OTHERS), `matMul, ${transposeA}, ${transposeB}`);
        const pairs = result(() =>
          kernels.batchMatMul(tensor(twice(a), [2, ...aShape]), tensor(twice(b), [2, ...bShape]), { transposeA, transposeB }),
        );
        assert.deepEqual(pairs.shape, [2, 2, 2]);
        const second = product(
          VALUES.map((value) => value + 1),
          OTHERS.map((value) => value + 1),
        );
        assertNear(pairs.values, [...product(VALUES, OTHERS), ...second], `batchMatMul, ${transposeA}, ${transposeB}`);
      }
    }
    const plain = result(() => kernels.batchMatMul(tensor(VALUES, [1, 2, 3]), tensor(OTHERS, [1, 3, 2])));
    assertNear(plain.values, product(VALUES, OTHERS), "batchMatMul without options");
  });

  test("reshaping, slicing, gathering and sums", () => {
    const cases: readonly [string, () => Tensor, readonly number[], readonly number[]][] = [
      ["reshape", () => kernels.reshape(tensor(VALUES), [3, 2]), [...VALUES], [3, 2]],
      ["slice", () => kernels.slice(tensor(VALUES, [2, 3]), [0, 1], [2, 2]), [-0.5, 0, 1, 3], [2, 2]],
      [
        "concat",
        () => kernels.concat([tensor(VALUES, [3, 2]), tensor(OTHERS, [3, 2])], 1),
        [-2, -0.5, 3, 0.5, 0, 0.25, 0, -4, 1, 3, 2, 0.125],
        [3, 4],
      ],
      ["concat of one", () => kernels.concat([tensor(VALUES, [3, 2])], 1), [...VALUES], [3, 2]],
      ["stack", () => kernels.stack([tensor(VALUES), tensor(OTHERS)]), [...VALUES, ...OTHERS], [2, 6]],
      ["transpose", () => kernels.transpose(tensor(VALUES, [2, 3]), [1, 0]), [-2, 0.25, -0.5, 1, 0, 3], [3, 2]],
      ["addBias", () => kernels.addBias(tensor(VALUES, [2, 3]), tensor(Float32Array.of(10, 20, 30))), [8, 19.5, 30, 10.25, 21, 33], [2, 3]],
      ["sum of rows", () => kernels.sum(tensor(VALUES, [2, 3]), [0]), [-1.75, 0.5, 3], [3]],
      ["sum, dimensions kept", () => kernels.sum(tensor(VALUES, [2, 3]), [1], true), [-2.5, 4.25], [2, 1]],
      ["segmentSum", () => kernels.segmentSum(tensor(VALUES, [3, 2]), fromInts([0, 0, 1], [3])), [-2, -0.25, 1, 3], [2, 2]],
      ["gatherRows", () => kernels.gatherRows(tensor(VALUES, [3, 2]), fromInts([2, 0], [2])), [1, 3, -2, -0.5], [2, 2]],
      ["softmax", () => kernels.softmax(tensor(Float32Array.of(0, Math.log(3), 1, 1), [2, 2])), [0.25, 0.75, 0.5, 0.5], [2, 2]],
      ["fromBytes", () => kernels.fromBytes(Uint8Array.of(0, 255, 7, 128, 1, 2), 2, 3), [0, 255, 7, 128, 1, 2], [2, 3]],
      ["fromBytes of whole words", () => kernels.fromBytes(Uint8Array.of(1, 2, 3, 255), 2, 2), [1, 2, 3, 255], [2, 2]],
    ];
    for (const [name, compute, values, shape] of cases) {
      const found = result(compute);
      assertNear(found.values, values, name);
      assert.deepEqual(found.shape, shape, name);
    }
  });
});
