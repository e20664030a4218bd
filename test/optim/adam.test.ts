import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { ownKernels } from "../../src/kernels/choose.js";
import { REFERENCE } from "../../src/kernels/reference.js";
import { bias, matrix } from "../../src/model/parameters.js";
import { WeightStore } from "../../src/model/weights.js";
import { Adam } from "../../src/optim/adam.js";
import { tidy } from "../../src/runtime/tensor.js";
import { fromFloats, toFloats } from "../../src/runtime/transfer.js";
import { loadForTests } from "../helpers/device.js";

const [ROWS, INPUTS, OUTPUTS] = [2, 4, 6] as const;
const LEARNING_RATE = 1e-3;
const STEPS = 3;

/** Returns the factors of the gradient x^T dy of a step, whose values are about 1e-7: sqrt(v) is then at most 1e-8, as small as epsilon. */
function factors(step: number): { readonly x: Float32Array; readonly dy: Float32Array } {
  const values = (count: number, seed: number): Float32Array =>
    Float32Array.from({ length: count }, (_, i) => (2 + Math.sin(seed + i)) * 2e-4);
  return { x: values(ROWS * INPUTS, step), dy: values(ROWS * OUTPUTS, 10 + step) };
}

function gradientOf(step: number): Float64Array {
  const { x, dy } = factors(step);
  const gradient = new Float64Array(INPUTS * OUTPUTS);
  for (let row = 0; row < ROWS; row++)
    for (let i = 0; i < INPUTS; i++)
      for (let j = 0; j < OUTPUTS; j++)
        gradient[i * OUTPUTS + j] =
          (gradient[i * OUTPUTS + j] as number) + (x[row * INPUTS + i] as number) * (dy[row * OUTPUTS + j] as number);
  return gradient;
}

/**
 * Returns the weights after `STEPS` steps from `initial`, in float64, by AdamW (arXiv:1711.05101, algorithm 2): w -= learning_rate weight_decay w, then
 * w -= learning_rate sqrt(1 - 0.999^t) / (1 - 0.9^t) m / (sqrt(v) + 1e-8).
 */
function expectedWeights(initial = 0, weightDecay = 0): readonly number[] {
  return Array.from({ length: INPUTS * OUTPUTS }, (_, i) => {
    let [w, m, v] = [initial, 0, 0];
    for (let step = 1; step <= STEPS; step++) {
      const gradient = gradientOf(step)[i] as number;
      m = 0.9 * m + 0.1 * gradient;
      v = 0.999 * v + 0.001 * gradient ** 2;
      w -= LEARNING_RATE * weightDecay * w;
      w -= ((LEARNING_RATE * Math.sqrt(1 - 0.999 ** step)) / (1 - 0.9 ** step)) * (m / (Math.sqrt(v) + 1e-8));
    }
    return w;
  });
}

describe("Adam", () => {
  before(() => loadForTests());

  for (const [name, kernels, update] of [
    ["the gradient", () => REFERENCE, "apply"],
    ["its factors, with the reference kernels", () => REFERENCE, "applyProduct"],
    ["its factors, with our kernels", ownKernels, "applyProduct"],
  ] as const) {
    test(`adds an epsilon of 1e-8 to sqrt(v): equals the formula in float64 where v is tiny, given ${name}`, () => {
      const store = new WeightStore([matrix("w", [INPUTS, OUTPUTS])]);
      store.variable("w").upload(new Float32Array(INPUTS * OUTPUTS));
      const adam = new Adam(store, kernels());
      for (let step = 1; step <= STEPS; step++) {
        const at = { step, learningRate: LEARNING_RATE };
        tidy(() => {
          if (update === "apply") {
            adam.apply("w", fromFloats(Float32Array.from(gradientOf(step)), [INPUTS, OUTPUTS]), 0, at);
          } else {
            const { x, dy } = factors(step);
            adam.applyProduct("w", fromFloats(x, [ROWS, INPUTS]), fromFloats(dy, [ROWS, OUTPUTS]), 0, at);
          }
        });
      }
      const weights = store.variable("w").download();
      for (const [i, expected] of expectedWeights().entries()) {
        // 0.999^t is within 3e-8 in float32, so 1 - 0.999^t, about 1e-3, is within 3e-5. Twice the epsilon changes a weight by more than 0.2 of its value.
        const error = Math.abs((weights[i] as number) - expected) / Math.abs(expected);
        assert.ok(error < 1e-4, `weight ${i}: ${weights[i]}, expected ${expected}`);
      }
      adam.dispose();
      store.dispose();
    });
  }

  for (const [name, kernels] of [
    ["the reference kernels", () => REFERENCE],
    ["our kernels", ownKernels],
  ] as const) {
    test(`decays matrices as AdamW does, and no other array: ${name}`, () => {
      const weightDecay = 20;
      const store = new WeightStore([matrix("w", [INPUTS, OUTPUTS]), matrix("by product", [INPUTS, OUTPUTS]), bias("b", INPUTS * OUTPUTS)]);
      for (const array of ["w", "by product", "b"]) store.variable(array).upload(new Float32Array(INPUTS * OUTPUTS).fill(0.5));
      const adam = new Adam(store, kernels(), weightDecay);
      for (let step = 1; step <= STEPS; step++) {
        const at = { step, learningRate: LEARNING_RATE };
        const gradient = Float32Array.from(gradientOf(step));
        tidy(() => {
          adam.apply("w", fromFloats(gradient, [INPUTS, OUTPUTS]), 0, at);
          adam.apply("b", fromFloats(gradient, [INPUTS * OUTPUTS]), 0, at);
          const { x, dy } = factors(step);
          const before = store.variable("by product").download();
          const dx = toFloats(adam.applyProduct("by product", fromFloats(x, [ROWS, INPUTS]), fromFloats(dy, [ROWS, OUTPUTS]), 0, at));
          // The first value of dy w^T, of w before its decay, which is 2 % of it.
          const expected = dy.subarray(0, OUTPUTS).reduce((sum, value, i) => sum + value * (before[i] as number), 0);
          assert.ok(Math.abs((dx[0] as number) / expected - 1) < 1e-5, `${dx[0]}, expected ${expected}`);
        });
      }
      for (const [array, decay] of [
        ["w", weightDecay],
        ["by product", weightDecay],
        ["b", 0],
      ] as const) {
        const found = store.variable(array).download();
        // Three roundings of values of about 0.5, and an update of about 1e-3 that is within 1e-4 of its value, as above.
        for (const [i, expected] of expectedWeights(0.5, decay).entries())
          assert.ok(Math.abs((found[i] as number) - expected) < 5e-7, `${array}, value ${i}: ${found[i]}, expected ${expected}`);
      }
      adam.dispose();
      store.dispose();
    });
  }
});
