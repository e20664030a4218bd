import assert from "node:assert/strict";
import { test } from "node:test";
import { findPaddleStep } from "../../src/checkpoints/paddle-step.js";
import type { RawArray, WeightSource } from "../../src/checkpoints/weight-source.js";
import { failsWith } from "../helpers/shards.js";

function source(arrays: readonly RawArray[]): WeightSource {
  return {
    path: "x",
    form: "a test",
    snapshot: null,
    entries: new Map(arrays.map(({ name, dtype, shape }) => [name, { dtype, shape }])),
    async *read(names) {
      yield* arrays.filter(({ name }) => names.has(name));
    },
    close: () => Promise.resolve(),
  };
}

const counter = (value: bigint): RawArray => ({
  name: "@LR_DECAY_COUNTER@",
  dtype: "i8",
  shape: [1],
  bytes: new Uint8Array(BigInt64Array.of(value).buffer),
});

const power = (value: number): RawArray => ({
  name: "logits_clf_bias_beta2_pow_acc_0",
  dtype: "f4",
  shape: [1],
  bytes: new Uint8Array(Float32Array.of(value).buffer),
});

/** beta2^(n+1) as Paddle multiplies it up, in float32. */
function powerAfter(steps: number): number {
  const powers = Float32Array.of(0.999, 0.999);
  for (let i = 0; i < steps; i++) powers[0] = (powers[0] as number) * (powers[1] as number);
  return powers[0] as number;
}

test("the step is the counter plus 1", async () => {
  // Measured with Paddle 2.6.2: after three steps its counter is 2 and its beta2_pow_acc 0.9960061.
  for (const [value, step] of [
    [-1n, 0],
    [2n, 3],
    [123_456n, 123_457],
  ] as const) {
    assert.equal((await findPaddleStep(source([counter(value)]), null)).step, step);
  }
  assert.deepEqual(await findPaddleStep(source([counter(2n), power(0.9960061)]), null), { step: 3, origin: "from @LR_DECAY_COUNTER@" });
  const inconsistent = await findPaddleStep(source([counter(41n), power(0.99800104)]), null);
  assert.deepEqual(inconsistent, { step: 42, origin: "from @LR_DECAY_COUNTER@ (the powers of beta2 give 1)" });
  await failsWith(findPaddleStep(source([counter(-2n)]), null), "BAD_WEIGHTS", { parameter: "@LR_DECAY_COUNTER@" });
});

test("without a counter, the step follows from the powers of beta2, as far as float32 can represent them", async () => {
  for (const steps of [0, 1, 2, 3, 10, 999, 12_345, 60_000, 84_000]) {
    const found = await findPaddleStep(source([power(powerAfter(steps))]), null);
    assert.deepEqual(found, { step: steps, origin: "from the powers of beta2" });
  }
});

test("without both, --resume-step is required; it overrides both", async () => {
  for (const arrays of [[], [power(0)], [power(1)], [power(powerAfter(120_000))], [power(0.5 * powerAfter(84_900))]]) {
    const error = await failsWith(findPaddleStep(source(arrays), null), "BAD_WEIGHTS");
    assert.match(error.message, /Pass it with --resume-step/);
    assert.equal((await findPaddleStep(source(arrays), 700)).step, 700);
  }
  assert.equal((await findPaddleStep(source([counter(2n)]), 9)).step, 9);
});
