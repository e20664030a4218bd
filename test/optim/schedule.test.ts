import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { describeTinyRate, learningRateAt } from "../../src/optim/schedule.js";

const published = { learning_rate: 0.0002, learning_rate_decay: 0.8, lr_boundary_examples: 2_000_000, batch_size: 160 };

test("the published schedule decays every 12,500 steps", () => {
  assert.equal(learningRateAt(0, published), 0.0002);
  assert.equal(learningRateAt(12_499, published), 0.0002);
  assert.equal(learningRateAt(12_500, published), 0.0002 * 0.8);
  assert.equal(learningRateAt(25_000, published), 0.0002 * 0.8 ** 2);
  // A batch larger than a boundary: the rate falls each step.
  assert.equal(learningRateAt(3, { ...published, lr_boundary_examples: 100 }), 0.0002 * 0.8 ** 3);
});

test("the rate never increases, and depends on the examples in whole batches", () => {
  fc.assert(
    fc.property(fc.nat(1_000_000), fc.integer({ min: 1, max: 512 }), (step, batch_size) => {
      const options = { ...published, batch_size };
      assert.ok(learningRateAt(step + 1, options) <= learningRateAt(step, options));
      const perDecay = Math.floor(2_000_000 / batch_size);
      assert.equal(learningRateAt(step, options), 0.0002 * 0.8 ** Math.floor(step / perDecay));
    }),
  );
});

test("a rate too small for float32 weights is a warning that names the key to change", () => {
  assert.equal(describeTinyRate(400_000, published), null);
  assert.match(describeTinyRate(0, { ...published, learning_rate: 1e-30 }) ?? "", /step 0 is 1e-30: .*; raise TRAIN\.learning_rate \(/);
  assert.equal(describeTinyRate(0, { ...published, learning_rate: 1e-9 }), null);
  // The first step at which 0.0002 * 0.8^i < 1e-9.
  assert.equal(describeTinyRate(54 * 12_500, published), null);
  assert.match(describeTinyRate(55 * 12_500, published) ?? "", /step 687500 is .*raise TRAIN\.learning_rate_decay or/);
  // 0.01 is a weight of usual size: of two rates around the limit, one changes it by half, and a tenth of it does not.
  const weight = Math.fround(0.01);
  assert.notEqual(Math.fround(weight - 1e-9), weight);
  assert.equal(Math.fround(weight - 1e-10), weight);
});
