import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { matMul } from "../../src/kernels/tensorflow-ops.js";
import { countTensors } from "../../src/runtime/constants.js";
import { loadTensorflow, runtime } from "../../src/runtime/runtime.js";
import { keep, type Tensor, tidy } from "../../src/runtime/tensor.js";
import { fromFloats, scalar, toFloats } from "../../src/runtime/transfer.js";

/** Whether the binding has an array of this number. */
function isAllocated(id: number): boolean {
  try {
    runtime().binding.tensorDataSync(id);
    return true;
  } catch {
    return false;
  }
}

describe("tensors", () => {
  before(() => loadTensorflow(false));

  test("tidy frees all tensors but those returned, in any container, or kept", () => {
    const before = countTensors();
    const kept = tidy(() => keep(scalar(1)));
    const result = tidy(() => ({ list: [scalar(2)], values: new Float32Array(10), nothing: null, text: "x" }));
    assert.equal(countTensors(), before + 2);
    kept.dispose();
    result.list[0]?.dispose();
    assert.equal(countTensors(), before);
  });

  test("tidy frees its tensors if the step fails", () => {
    const before = countTensors();
    const ids: number[] = [];
    assert.throws(
      () =>
        tidy(() => {
          const x = scalar(1);
          ids.push(x.id);
          matMul(x, scalar(2));
        }),
      { code: "KERNEL_FAILED", message: /MatMul with inputs \[\], \[\]/ },
    );
    assert.equal(countTensors(), before);
    assert.deepEqual(ids.map(isAllocated), [false]);
  });

  test("the result of an inner tidy is freed by the outer one, unless that returns it too", () => {
    const before = countTensors();
    const ids: number[] = [];
    const make = (value: number): Tensor => {
      const x = tidy(() => scalar(value));
      ids.push(x.id);
      return x;
    };
    const returned = tidy(() => {
      make(1);
      return make(2);
    });
    assert.deepEqual(ids.map(isAllocated), [false, true]);
    // A tensor of an outer step is not the inner one's to free.
    tidy(() => void tidy(() => returned));
    assert.deepEqual([...toFloats(returned)], [2]);
    returned.dispose();
    assert.equal(countTensors(), before);
  });

  test("clones share the memory until the last of them is disposed of", () => {
    const x = fromFloats(Float32Array.of(1, 2, 3), [3]);
    const { id } = x;
    const clone = x.clone();
    assert.equal(clone.id, id);
    x.dispose();
    x.dispose();
    assert.deepEqual([...toFloats(clone)], [1, 2, 3]);
    clone.dispose();
    assert.equal(isAllocated(id), false);
  });

  test("a tensor that was disposed of cannot be used", () => {
    const x = scalar(1);
    x.dispose();
    for (const use of [() => toFloats(x), () => x.clone(), () => matMul(x, x)]) assert.throws(use, /of shape \[\] is used after it was/);
  });

  test("values of another number than the shape's are an error", () => {
    assert.throws(() => fromFloats(Float32Array.of(1, 2), [3]), { code: "KERNEL_FAILED", message: /Shape does not match/ });
  });
});
