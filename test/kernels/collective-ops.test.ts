import assert from "node:assert/strict";
import { test } from "node:test";
import { awaitCollective } from "../../src/kernels/collective-ops.js";
import { loadTensorflow } from "../../src/runtime/runtime.js";

test("waiting for a collective op that was not started, or a second time, is an error", async () => {
  await loadTensorflow(false);
  assert.throws(() => awaitCollective(1), { code: "KERNEL_FAILED", message: /no pending collective op has this number/ });
});
