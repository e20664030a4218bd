import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assignGpus, limitDevices, visibleGpus } from "../../src/distributed/devices.js";
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

test("TRAIN.num_gpus is a maximum: the GPUs that are available, and the processes that can divide a batch", () => {
  const limited = (numGpus: number, gpus: readonly string[], useGpu: boolean | "auto" = "auto", maxProcesses = 160) =>
    limitDevices({ numGpus, useGpu, maxProcesses }, gpus);
  for (const numGpus of [0, 1]) assert.deepEqual(limited(numGpus, ["0", "1"]), { devices: 1, note: null });
  for (const useGpu of ["auto", true] as const) {
    assert.deepEqual(limited(4, ["0", "2"], useGpu), {
      devices: 2,
      note: "TRAIN.num_gpus = 4: 2 GPUs are available, so 2 processes train",
    });
    assert.deepEqual(limited(4, ["3"], useGpu), { devices: 1, note: "TRAIN.num_gpus = 4: 1 GPU is available, so one process trains" });
    assert.deepEqual(limited(2, [], useGpu), { devices: 1, note: "TRAIN.num_gpus = 2: no GPUs are available, so one process trains" });
  }
  assert.equal(limited(2, ["0", "1", "2", "3"]).devices, 2);
  const ofSmallBatch = limited(4, ["0", "1", "2", "3"], "auto", 3);
  assert.deepEqual(ofSmallBatch, {
    devices: 3,
    note: "TRAIN.num_gpus = 4: 4 GPUs are available, and the batch can be divided among 3, so 3 processes train",
  });
  assert.deepEqual(limited(4, ["0", "1"], false), {
    devices: 1,
    note: "TRAIN.num_gpus = 4: use_gpu is False, so one process trains on the CPU",
  });
});
