import assert from "node:assert/strict";
import { test } from "node:test";
import { optimizerScalars } from "../../src/checkpoints/export.js";

const schedule = { learning_rate: 0.25, learning_rate_decay: 0.5, lr_boundary_examples: 320, batch_size: 160 };

test("after three steps Paddle holds beta^4, the third step's learning rate, and a counter of 2", () => {
  assert.deepEqual(optimizerScalars(3, ["w"], schedule), [
    { name: "w_beta1_pow_acc_0", shape: [1], data: Float32Array.of(0.9 ** 4) },
    { name: "w_beta2_pow_acc_0", shape: [1], data: Float32Array.of(0.999 ** 4) },
    // Two steps per decay: the third step is the first with half the rate.
    { name: "learning_rate", shape: [1], data: Float32Array.of(0.125) },
    { name: "@LR_DECAY_COUNTER@", shape: [1], data: BigInt64Array.of(2n) },
  ]);
});

test("before the first step the counter is -1", () => {
  const scalars = new Map(optimizerScalars(0, ["w"], schedule).map(({ name, data }) => [name, data[0]]));
  assert.equal(scalars.get("@LR_DECAY_COUNTER@"), -1n);
  assert.equal(scalars.get("learning_rate"), 0.25);
  assert.equal(scalars.get("w_beta1_pow_acc_0"), Math.fround(0.9));
});
