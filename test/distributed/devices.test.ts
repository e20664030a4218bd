import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assignGpus, visibleGpus } from "../../src/distributed/devices.js";
import { temporaryFolder } from "../helpers/files.js";
import { failsWith } from "../helpers/shards.js";

test("the visible GPUs are those of the driver, or those that CUDA_VISIBLE_DEVICES selects", (t) => {
  const root = temporaryFolder(t);
  assert.deepEqual(visibleGpus({ environment: { CUDA_VISIBLE_DEVICES: "0,1" }, root }), [], "without a driver");
  for (const address of ["0000:17:00.0", "0000:65:00.0", "0000:b3:00.0"])
    mkdirSync(join(root, "proc/driver/nvidia/gpus", address), { recursive: true });
  const visible = (CUDA_VISIBLE_DEVICES?: string): readonly string[] => visibleGpus({ environment: { CUDA_VISIBLE_DEVICES }, root });
  assert.deepEqual(visible(), ["0", "1", "2"]);
  assert.deepEqual(visible("2, 0"), ["2", "0"]);
  assert.deepEqual(visible("GPU-8f2e,1"), ["GPU-8f2e", "1"]);
  assert.deepEqual(visible("1,-1,0"), ["1"]);
  assert.deepEqual(visible("-1"), []);
  assert.deepEqual(visible(""), []);
});

test("each process has a GPU of its own, and fewer GPUs than processes are an error", async () => {
  assert.deepEqual(assignGpus(2, "auto", ["1", "3", "4"]), ["1", "3"]);
  assert.deepEqual(assignGpus(2, true, ["1", "3"]), ["1", "3"]);
  assert.deepEqual(assignGpus(3, "auto", []), []);
  assert.deepEqual(assignGpus(3, false, ["0", "1"]), []);
  for (const [useGpu, gpus] of [
    ["auto", ["0", "1"]],
    [true, []],
  ] as const) {
    const error = await failsWith(
      Promise.resolve().then(() => assignGpus(3, useGpu, gpus)),
      "NO_DEVICE",
    );
    assert.match(error.message, new RegExp(`--devices: not enough GPUs \\(expected 3, found ${gpus.length}\\)`));
  }
});
