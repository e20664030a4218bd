import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import fc from "fast-check";
import { add } from "../../src/kernels/tensorflow-ops.js";
import { countTensors } from "../../src/runtime/constants.js";
import { tidy } from "../../src/runtime/tensor.js";
import { fromFloats, fromInts, toFloats } from "../../src/runtime/transfer.js";
import { DeviceVariable } from "../../src/runtime/variables.js";
import { loadForTests } from "../helpers/device.js";

const drawn = (count: number, stream: number): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => Math.sin(12.9898 * (i + 1) + 78.233 * stream) * 2);

function variable(values: Float32Array): DeviceVariable {
  const made = new DeviceVariable("test", [values.length]);
  made.upload(values);
  return made;
}

describe("a variable", () => {
  before(() => loadForTests());

  test("shares its memory with the borrowed tensor, and downloads the current value", () => {
    const before = countTensors();
    const [w, m, v] = [Float32Array.of(1, 2), new Float32Array(2), new Float32Array(2)].map(variable) as [
      DeviceVariable,
      DeviceVariable,
      DeviceVariable,
    ];
    assert.deepEqual([...tidy(() => w.use((value) => toFloats(add(value, value))))], [2, 4]);
    const c = { learningRate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, beta1Power: 0.9, beta2Power: 0.999, weightDecay: 0 };
    const steps = [1, 2].map(() => {
      tidy(() => w.applyAdam(m, v, fromFloats(Float32Array.of(3, -3), [2]), c, 0));
      return [...w.download()].map((value) => value.toFixed(5));
    });
    // Up to epsilon, the first step of Adam is the learning rate against the gradient's sign.
    assert.deepEqual(steps[0], ["0.90000", "2.10000"]);
    assert.notDeepEqual(steps[1], steps[0]);
    w.upload(Float32Array.of(5, 6));
    assert.deepEqual([...tidy(() => w.use((value) => toFloats(add(value, value))))], [10, 12]);
    assert.deepEqual([...w.download()], [5, 6]);
    for (const made of [w, m, v]) made.dispose();
    assert.equal(countTensors(), before);
  });

  test("has no value after an assignment that failed", () => {
    const made = variable(Float32Array.of(1, 2));
    assert.throws(() => tidy(() => made.assign(fromInts([1, 2], [2]))));
    assert.throws(() => made.use(() => assert.fail()), { code: "BAD_WEIGHTS" });
    made.upload(Float32Array.of(3, 4));
    assert.deepEqual([...made.download()], [3, 4]);
    made.dispose();
  });

  test("applies Adam, with and without AdamW's decay, like the formula in double precision, for any size", () => {
    // Around the sizes at which kernels change between serial and parallel code.
    const size = fc.oneof(fc.integer({ min: 1, max: 70 }), fc.constantFrom(1023, 16_384, 16_385, 40_001));
    fc.assert(
      fc.property(size, fc.integer({ min: 1, max: 50 }), fc.constantFrom(0, 3), (count, step, weightDecay) => {
        const [b1, b2, rate, epsilon] = [0.9, 0.999, 0.01, 1e-8];
        const start = [drawn(count, 1), drawn(count, 2), drawn(count, 3).map((value) => Math.abs(value) + 0.1), drawn(count, 4)] as const;
        const [w, m, v] = start.slice(0, 3).map(variable) as [DeviceVariable, DeviceVariable, DeviceVariable];
        const c = { learningRate: rate, beta1: b1, beta2: b2, epsilon, beta1Power: b1 ** step, beta2Power: b2 ** step, weightDecay };
        tidy(() => w.applyAdam(m, v, fromFloats(start[3], [count]), c, 0));
        const ours = [w, m, v].map((made) => made.download());
        for (let i = 0; i < count; i++) {
          const [w0, m0, v0, g] = start.map((values) => values[i] as number) as [number, number, number, number];
          const [m1, v1] = [b1 * m0 + (1 - b1) * g, b2 * v0 + (1 - b2) * g * g];
          const decayed = w0 * (1 - rate * weightDecay);
          const w1 = decayed - (((rate * Math.sqrt(1 - b2 ** step)) / (1 - b1 ** step)) * m1) / (Math.sqrt(v1) + epsilon);
          // A few roundings of float32, each 6e-8 of values up to 4. A second moment near zero would magnify them.
          const bounds = [1e-6, 1e-6, 1e-6];
          for (const [k, expected] of [w1, m1, v1].entries()) {
            const found = ours[k]?.[i] as number;
            assert.ok(Math.abs(found - expected) <= (bounds[k] as number), `value ${i} of ${count}: ${found} and ${expected}`);
          }
        }
        for (const made of [w, m, v]) made.dispose();
      }),
      { numRuns: 40 },
    );
  });

  test("blends a moving average with a new value", () => {
    // Around the size at which the kernel changes between serial and parallel code.
    for (const count of [1, 33, 40_000]) {
      const [from, towards] = [drawn(count, 5), drawn(count, 6)];
      const average = variable(from);
      tidy(() => average.blend(fromFloats(towards, [count]), 0.9));
      for (const [i, value] of average.download().entries()) {
        const expected = 0.9 * (from[i] as number) + 0.1 * (towards[i] as number);
        assert.ok(Math.abs(value - expected) < 1e-6, `${value} and ${expected}`);
      }
      average.dispose();
    }
  });
});
