import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { countSteps, describeTinyRate, learningRateAt } from "../../src/optim/schedule.js";

const published = {
  lr_schedule: "step",
  learning_rate: 0.0002,
  learning_rate_decay: 0.8,
  lr_boundary_examples: 2_000_000,
  warmup_examples: 0,
  batch_size: 160,
  epoch: 6,
  max_iter: 700_000,
} as const;

test("the published schedule decays every 12,500 steps", () => {
  assert.equal(learningRateAt(0, published, null), 0.0002);
  assert.equal(learningRateAt(12_499, published, null), 0.0002);
  assert.equal(learningRateAt(12_500, published, null), 0.0002 * 0.8);
  assert.equal(learningRateAt(25_000, published, null), 0.0002 * 0.8 ** 2);
  // A batch larger than a boundary: the rate falls each step.
  assert.equal(learningRateAt(3, { ...published, lr_boundary_examples: 100 }, null), 0.0002 * 0.8 ** 3);
});

test("the rate never increases, and depends on the examples in whole batches", () => {
  fc.assert(
    fc.property(fc.nat(1_000_000), fc.integer({ min: 1, max: 512 }), (step, batch_size) => {
      const options = { ...published, batch_size };
      assert.ok(learningRateAt(step + 1, options, null) <= learningRateAt(step, options, null));
      const perDecay = Math.floor(2_000_000 / batch_size);
      assert.equal(learningRateAt(step, options, null), 0.0002 * 0.8 ** Math.floor(step / perDecay));
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

test("a cosine goes from the learning rate to 0 over all epochs, or max_iter steps if that is less", () => {
  const cosine = { ...published, lr_schedule: "cosine", epoch: 5 } as const;
  // 50 batches of 160 per epoch, and an incomplete one.
  const videos = 8100;
  for (const [options, known, steps] of [
    [cosine, videos, 250],
    [{ ...cosine, max_iter: 90 }, videos, 90],
    [{ ...cosine, max_iter: 90 }, null, 90],
    [{ ...cosine, epoch: 1 }, 100, 0],
  ] as const) {
    assert.equal(countSteps(options, known), steps);
    for (const step of [0, 1, 45, 89]) {
      const expected = 0.0002 * Math.cos((Math.PI / 2) * Math.min(1, step / Math.max(1, steps))) ** 2;
      // cos^2(x / 2) = (1 + cos(x)) / 2, up to rounding.
      assert.ok(Math.abs(learningRateAt(step, options, known) - expected) < 1e-18, `step ${step} of ${steps}`);
    }
  }
  assert.equal(learningRateAt(0, cosine, videos), 0.0002);
  assert.equal(learningRateAt(250, cosine, videos), 0);
  assert.equal(learningRateAt(300, cosine, videos), 0);
  // The end of a cosine is no reason to warn.
  assert.equal(describeTinyRate(249, cosine), null);
});

test("warm-up multiplies the rate of both schedules by the share of its videos that are done after the step", () => {
  for (const options of [published, { ...published, lr_schedule: "cosine" }, { ...published, lr_boundary_examples: 160 }] as const) {
    const warm = { ...options, warmup_examples: 1000 };
    for (const [step, factor] of [
      [0, 0.16],
      [1, 0.32],
      [5, 0.96],
      [6, 1],
      [7, 1],
    ] as const) {
      assert.equal(learningRateAt(step, warm, 8000), learningRateAt(step, options, 8000) * factor);
    }
  }
});
