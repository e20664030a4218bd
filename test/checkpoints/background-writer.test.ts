import assert from "node:assert/strict";
import { mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { NextvladError } from "../../src/base/errors.js";
import { lockDirectory } from "../../src/base/lock.js";
import { copyArrays, writeInBackground } from "../../src/checkpoints/background-writer.js";
import { checkSnapshot } from "../../src/checkpoints/snapshot.js";
import type { SnapshotTask } from "../../src/checkpoints/snapshot-worker.js";
import { SafetensorsFile } from "../../src/formats/tensors/safetensors.js";
import { temporaryFolder } from "../helpers/files.js";
import { failsWith } from "../helpers/shards.js";

const STATE = { step: 7, epoch: 1, step_in_epoch: 3, seed: 5, best: null, validated_epoch: 0, shards: null };

function taskIn(saveDir: string, lockText: string, retryMs = 10): SnapshotTask {
  const arrays = [{ name: "w", shape: [2, 2], download: () => Float32Array.of(1, 2, 3, 4) }];
  const writtenBy = { nextvlad: "0", node: "0", tensorflow: "0", device: "cpu" };
  const path = join(saveDir, "NEXTVLAD_step7");
  return {
    path,
    saveDir,
    lockText,
    weights: copyArrays(arrays),
    moments: copyArrays(arrays),
    ema: [],
    state: STATE,
    configYaml: "a: 1\n",
    writtenBy,
    retryMs,
  };
}

describe("writing a snapshot in the background", () => {
  test("resolves when the snapshot is on the disk; the arrays are transferred to the worker", async (t) => {
    const folder = temporaryFolder(t);
    const lock = await lockDirectory(folder);
    const task = taskIn(folder, lock.text);
    const written = writeInBackground(task, () => assert.fail());
    assert.equal(task.weights[0]?.values.length, 0);
    await written;
    await lock.release();
    assert.deepEqual(readdirSync(folder), ["NEXTVLAD_step7"]);
    await checkSnapshot(task.path);
    const file = await SafetensorsFile.open(join(task.path, "weights.safetensors"));
    assert.deepEqual(await file.read("w"), { dtype: "F32", shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) });
    await file.close();
  });

  test("reports a slow write while it lasts", async (t) => {
    const folder = temporaryFolder(t);
    const lock = await lockDirectory(folder);
    const waits: number[] = [];
    const onSlow = (waitedMs: number): unknown => waits.push(waitedMs);
    // Starting the worker thread alone takes longer than these few milliseconds.
    await writeInBackground(taskIn(folder, lock.text), () => assert.fail(), onSlow, 2);
    const count = waits.length;
    assert.ok(count >= 2 && (waits[1] as number) > (waits[0] as number), waits.join());
    await sleep(3 * (waits.at(-1) as number));
    assert.equal(waits.length, count);
    await lock.release();
  });

  test("rejects NaN and Inf immediately, and writes nothing", async (t) => {
    const folder = temporaryFolder(t);
    const lock = await lockDirectory(folder);
    for (const value of [Number.NaN, Number.NEGATIVE_INFINITY]) {
      const task = taskIn(folder, lock.text);
      (task.moments[0]?.values ?? [])[2] = value;
      const error = await failsWith(
        writeInBackground(task, () => assert.fail()),
        "NOT_FINITE",
        { parameter: "w" },
      );
      assert.match(error.message, /snapshot not written/);
    }
    await lock.release();
    assert.deepEqual(readdirSync(folder), []);
  });

  test("retries a failed write once: a mount may recover", async (t) => {
    const folder = temporaryFolder(t);
    const saveDir = join(folder, "save");
    mkdirSync(saveDir);
    const lock = await lockDirectory(saveDir);
    renameSync(saveDir, join(folder, "unmounted"));
    const warnings: NextvladError[] = [];
    const task = taskIn(saveDir, lock.text, 300);
    let warnedMs = Number.NaN;
    await writeInBackground(task, (error) => {
      warnedMs = performance.now();
      warnings.push(error);
      renameSync(join(folder, "unmounted"), saveDir);
    });
    // The worker starts its delay when it sends the warning, which may arrive a little later.
    assert.ok(performance.now() - warnedMs > 100);
    assert.deepEqual(
      warnings.map(({ code }) => code),
      ["FILE_UNWRITABLE"],
    );
    await checkSnapshot(task.path);
    await lock.release();
  });

  test("writes nothing if the save-dir was removed or replaced", async (t) => {
    const saveDir = join(temporaryFolder(t), "save");
    mkdirSync(saveDir);
    const lock = await lockDirectory(saveDir);
    rmSync(saveDir, { recursive: true });
    await failsWith(
      writeInBackground(taskIn(saveDir, lock.text), () => mkdirSync(saveDir)),
      "FILE_UNWRITABLE",
      { file: saveDir },
    );
    assert.deepEqual(readdirSync(saveDir), []);
    await lock.release();
    const other = await lockDirectory(saveDir);
    await failsWith(
      writeInBackground(taskIn(saveDir, lock.text), () => undefined),
      "SAVE_DIR_TAKEN",
    );
    await other.release();
  });

  test("leaves an existing snapshot unchanged if it fails", async (t) => {
    const folder = temporaryFolder(t);
    const lock = await lockDirectory(folder);
    await writeInBackground(taskIn(folder, lock.text), () => assert.fail());
    const broken = { ...taskIn(folder, lock.text), weights: [{ name: "w", shape: [3], values: new Float32Array(2) }] };
    const error = await failsWith(
      writeInBackground(broken, () => undefined),
      "BAD_FORMAT",
    );
    assert.equal(error.details.parameter, "w");
    await checkSnapshot(broken.path);
    await lock.release();
  });
});
