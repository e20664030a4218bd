import assert from "node:assert/strict";
import { test } from "node:test";
import { optimizerScalars } from "../../src/checkpoints/export.js";

const schedule = {
  lr_schedule: "step",
  learning_rate: 0.25,
  learning_rate_decay: 0.5,
  lr_boundary_examples: 320,
  warmup_examples: 0,
  batch_size: 160,
  epoch: 4,
  max_iter: 1000,
} as const;

test("after three steps Paddle holds beta^4, the third step's learning rate, and a counter of 2", () => {
  assert.deepEqual(optimizerScalars({ step: 3, videos: null }, ["w"], schedule), [
    { name: "w_beta1_pow_acc_0", shape: [1], data: Float32Array.of(0.9 ** 4) },
    { name: "w_beta2_pow_acc_0", shape: [1], data: Float32Array.of(0.999 ** 4) },
    // Two steps per decay: the third step is the first with half the rate.
    { name: "learning_rate", shape: [1], data: Float32Array.of(0.125) },
    { name: "@LR_DECAY_COUNTER@", shape: [1], data: BigInt64Array.of(2n) },
  ]);
});

test("the learning rate of a cosine is that of the videos of an epoch", () => {
  const rate = (videos: number | null) =>
    optimizerScalars({ step: 2, videos }, [], { ...schedule, lr_schedule: "cosine" }).find(({ name }) => name === "learning_rate")?.data[0];
  // Step 1, the second one, of 4 epochs of 2 batches; and of 1,000 steps.
  assert.equal(rate(479), Math.fround(0.25 * Math.cos(Math.PI / 16) ** 2));
  assert.equal(rate(null), Math.fround(0.25 * Math.cos(Math.PI / 2000) ** 2));
});

test("before the first step the counter is -1", () => {
  const scalars = new Map(optimizerScalars({ step: 0, videos: null }, ["w"], schedule).map(({ name, data }) => [name, data[0]]));
  assert.equal(scalars.get("@LR_DECAY_COUNTER@"), -1n);
  assert.equal(scalars.get("learning_rate"), 0.25);
  assert.equal(scalars.get("w_beta1_pow_acc_0"), Math.fround(0.9));
});
