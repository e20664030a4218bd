import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { add, fromBytes, fromFloats, matMul, scalar, toFloats } from "../../src/tensorflow/kernels.js";
import { countTensors, keep, loadTensorflow, tidy } from "../../src/tensorflow/runtime.js";
import { DeviceVariable } from "../../src/tensorflow/variables.js";

describe("TensorFlow behind its floor", () => {
  before(() => loadTensorflow(false));

  test("a promise of a GPU is kept or refused", async () => {
    await assert.rejects(loadTensorflow(true), { code: "NO_DEVICE", message: /use_gpu is True/ });
    assert.equal((await loadTensorflow("auto")).kind, "cpu");
  });

  test("tidy frees all but what is returned or kept, whatever holds it", () => {
    const before = countTensors();
    const kept = tidy(() => keep(scalar(1)));
    const result = tidy(() => ({ list: [scalar(2)], values: new Float32Array(10), nothing: null, text: "x" }));
    assert.equal(countTensors(), before + 2);
    kept.dispose();
    result.list[0]?.dispose();
    assert.throws(() => tidy(() => matMul(scalar(1), scalar(2))), { code: "KERNEL_FAILED", message: /MatMul of \[\], \[\]/ });
    assert.equal(countTensors(), before);
  });

  test("bytes arrive as their values, whatever their number and alignment", () => {
    for (const [rows, columns, from] of [
      [2, 4, 0],
      [3, 5, 0],
      [2, 4, 1],
      [1, 1, 3],
    ] as const) {
      const bytes = Uint8Array.from({ length: from + rows * columns }, (_, i) => 255 - i * 7).subarray(from);
      assert.deepEqual([...tidy(() => toFloats(fromBytes(bytes, rows, columns)))], [...bytes]);
    }
  });

  test("a variable is updated in place, and lends its value", () => {
    const before = countTensors();
    const [w, m, v] = ["w", "m", "v"].map((name) => new DeviceVariable(name, [2])) as [DeviceVariable, DeviceVariable, DeviceVariable];
    w.upload(Float32Array.of(1, 2));
    for (const moment of [m, v]) moment.upload(Float32Array.of(0, 0));
    assert.deepEqual([...w.use((value) => toFloats(add(value, value)))], [2, 4]);
    const c = { learningRate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, beta1Power: 0.9, beta2Power: 0.999 };
    tidy(() => w.applyAdam(m, v, fromFloats(Float32Array.of(3, -3), [2]), c));
    // The first step of Adam moves by the learning rate against the gradient's sign, but for epsilon.
    assert.deepEqual(
      [...w.download()].map((value) => value.toFixed(5)),
      ["0.90000", "2.10000"],
    );
    for (const variable of [w, m, v]) variable.dispose();
    assert.ok(countTensors() <= before + 1, "the sum that was read is the only tensor left");
  });
});
