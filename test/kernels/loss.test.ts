import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { ownKernels } from "../../src/kernels/choose.js";
import { REFERENCE } from "../../src/kernels/reference.js";
import type { Kernels } from "../../src/kernels/types.js";
import { loadTensorflow } from "../../src/runtime/runtime.js";
import { tidy } from "../../src/runtime/tensor.js";
import { fromFloats, toFloats } from "../../src/runtime/transfer.js";

/** Float32 has 24 bits: 8 units in the last place allow for the rounding of an exponential, a sum, a quotient and a product. */
const RELATIVE = 8 * 2 ** -24;
/** Below this, the kernels' exponential no longer falls. */
const SMALLEST = 2e-38;

const VIDEOS = 3;
/** More values than one thread computes, and not a multiple of a vector register's. */
const CLASSES = 6001;

const logits = Float32Array.from({ length: VIDEOS * CLASSES }, (_, i) => ((i * 7919) % (VIDEOS * CLASSES)) / 90 - 100);
const labels = Float32Array.from(logits, (_, i) => [0, 1, 0.05][i % 3] as number);
const mask = Float32Array.from(logits, (_, i) => Number(i % 5 !== 0));

const sigmoidOf = (x: number): number => (x < 0 ? Math.exp(x) / (1 + Math.exp(x)) : 1 / (1 + Math.exp(-x)));
const softplusOf = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

const toMatrix = (values: Float32Array) => fromFloats(values, [VIDEOS, values.length / VIDEOS]);

/** Returns the cross entropy of one logit with the label 0, which is log(1 + e^logit). */
const lossOf = (logit: Float32Array, { crossEntropy }: Kernels): number =>
  tidy(() => toFloats(crossEntropy(fromFloats(logit, [1, 1]), fromFloats(Float32Array.of(0), [1, 1]), null))[0] as number);

function checkGradient({ crossEntropyGradient }: Kernels, withMask: boolean): void {
  const found = tidy(() => toFloats(crossEntropyGradient(toMatrix(logits), toMatrix(labels), withMask ? toMatrix(mask) : null)));
  for (const [i, value] of found.entries()) {
    const probability = sigmoidOf(logits[i] as number);
    const expected = ((probability - (labels[i] as number)) * (withMask ? (mask[i] as number) : 1)) / VIDEOS;
    const bound = RELATIVE * Math.max(probability, labels[i] as number) + SMALLEST;
    assert.ok(Math.abs(value - expected) <= bound, `logit ${logits[i]}: ${value}, expected ${expected}`);
  }
}

function checkSum({ crossEntropy }: Kernels, withMask: boolean): void {
  const found = tidy(() => toFloats(crossEntropy(toMatrix(logits), toMatrix(labels), withMask ? toMatrix(mask) : null))[0] as number);
  const expected = logits.reduce(
    (sum, l, i) => sum + (softplusOf(l) - l * (labels[i] as number)) * (withMask ? (mask[i] as number) : 1),
    0,
  );
  // TensorFlow sums 18,003 floats in floats.
  assert.ok(Math.abs(found / expected - 1) < 1e-5, `${found}, expected ${expected}`);
}

describe("the cross entropy", () => {
  before(() => loadTensorflow("auto"));

  for (const [name, kernels] of [
    ["", ownKernels],
    [", with the reference kernels", () => REFERENCE],
  ] as const) {
    test(`its sum and its gradient are those of float64, with and without a mask${name}`, () => {
      for (const withMask of [false, true]) {
        checkGradient(kernels(), withMask);
        checkSum(kernels(), withMask);
      }
    });

    test(`of one logit has the precision of a float${name}`, () => {
      for (const logit of logits.filter((_, i) => i % 40 === 0)) {
        const expected = softplusOf(logit);
        const found = lossOf(Float32Array.of(logit), kernels());
        assert.ok(Math.abs(found - expected) <= RELATIVE * expected + SMALLEST, `logit ${logit}: ${found}, expected ${expected}`);
      }
    });

    test(`is NaN for a logit that is not finite${name}`, () => {
      const payload = new Float32Array(Uint32Array.of(0x7fc0_0123).buffer);
      const [nan, positive, negative] = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY].map((x) => Float32Array.of(x));
      const found = [nan, payload, positive, negative].map((logit) => lossOf(logit as Float32Array, kernels()));
      assert.deepEqual(found, [Number.NaN, Number.NaN, Number.NaN, Number.NaN]);
    });
  }
});
