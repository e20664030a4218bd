import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { fromBytes } from "../../src/kernels/tensorflow-ops.js";
import { loadTensorflow, setThreadVariables } from "../../src/runtime/runtime.js";
import { tidy } from "../../src/runtime/tensor.js";
import { toFloats } from "../../src/runtime/transfer.js";

describe("the TensorFlow runtime", () => {
  before(() => loadTensorflow(false));

  test("requiring a GPU without one is an error", async () => {
    await assert.rejects(loadTensorflow(true), { code: "NO_DEVICE", message: /use_gpu is True/ });
    assert.equal((await loadTensorflow("auto")).kind, "cpu");
  });

  test("bytes of any number and alignment are converted to their values", () => {
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
});

test("the number of threads replaces that of TensorFlow's variables, with a warning if it differs", () => {
  const warnings: string[] = [];
  const environment: NodeJS.ProcessEnv = { TF_NUM_INTRAOP_THREADS: "-1", TF_NUM_INTEROP_THREADS: "3" };
  setThreadVariables(environment, 3, (message) => warnings.push(message));
  assert.deepEqual(environment, { TF_NUM_INTRAOP_THREADS: "3", TF_NUM_INTEROP_THREADS: "3" });
  assert.deepEqual(warnings, [
    "ignored the environment variable TF_NUM_INTRAOP_THREADS: TensorFlow uses 3 threads, found -1; use --threads or OMP_NUM_THREADS instead",
  ]);
  const unset: NodeJS.ProcessEnv = {};
  setThreadVariables(unset, 1, assert.fail);
  assert.deepEqual(unset, { TF_NUM_INTRAOP_THREADS: "1", TF_NUM_INTEROP_THREADS: "1" });
});
