import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { lockDirectory } from "../../src/base/lock.js";
import type { RunState } from "../../src/checkpoints/snapshot.js";
import { checkSnapshot } from "../../src/checkpoints/snapshot.js";
import { ALONE } from "../../src/distributed/world.js";
import { SafetensorsFile } from "../../src/formats/tensors/safetensors.js";
import { chooseKernels } from "../../src/kernels/choose.js";
import type { WeightStore } from "../../src/model/weights.js";
import { Adam } from "../../src/optim/adam.js";
import { countTensors } from "../../src/runtime/constants.js";
import { isSaveDue, Saver, type SaverOptions } from "../../src/training/saver.js";
import { randomStore, SMALL } from "../helpers/blocks.js";
import { loadForTests } from "../helpers/device.js";
import { temporaryFolder } from "../helpers/files.js";
import { failsWith } from "../helpers/shards.js";
import { captureTelemetry } from "../helpers/training.js";

const stateAt = (step: number): RunState => ({
  step,
  epoch: 0,
  step_in_epoch: step,
  seed: 1,
  best: null,
  validated_epoch: null,
  shards: null,
});

describe("Saver", () => {
  let store: WeightStore;
  let adam: Adam;
  before(async () => {
    await loadForTests();
    store = randomStore();
    adam = new Adam(store, chooseKernels());
  });
  after(() => {
    adam.dispose();
    store.dispose();
  });

  /** Creates a saver, by default for an empty save-dir and at step 0. */
  async function prepare(t: TestContext, overrides: Partial<SaverOptions> = {}, run = stateAt(0)) {
    const saveDir = overrides.saveDir ?? temporaryFolder(t);
    const lock = await lockDirectory(saveDir);
    t.after(() => lock.release());
    const { telemetry, log } = await captureTelemetry();
    const writtenBy = { nextvlad: "0", node: "0", tensorflow: "0", device: "cpu" };
    const fixed = {
      saveDir,
      lockText: lock.text,
      keep: null,
      configYaml: "a: 1\n",
      saveInterval: null,
      sizes: SMALL,
      dropRates: { descriptor: 0.5, hidden: 0 },
      writtenBy,
      telemetry,
      resumedFrom: null,
      retryMs: 1,
      beforeSave: async () => undefined,
      world: ALONE,
    };
    const state = { store, optimizer: adam, kernels: chooseKernels(), ema: null, firstStep: 0, run, isUpdating: false };
    const saver = new Saver({ ...fixed, ...overrides }, state);
    const pathAt = (step: number): string => join(saveDir, `NEXTVLAD_step${step}`);
    const save = (step: number): Promise<void> => {
      state.run = stateAt(step);
      return saver.save();
    };
    const snapshots = (): string[] => readdirSync(saveDir).filter((name) => name.startsWith("NEXTVLAD_"));
    return { saver, state, saveDir, save, pathAt, snapshots, log };
  }

  test("copies the arrays at the start of a save: further training does not change the snapshot", async (t) => {
    const { saver, save, pathAt, log } = await prepare(t);
    const bias = store.variable("logits_clf_bias");
    const then = bias.download();
    await save(1);
    bias.upload(then.map((value) => value + 1));
    assert.equal(saver.lastWritten, null);
    await saver.flush();
    assert.equal(saver.lastWritten, pathAt(1));
    assert.match(log(), /INFO: snapshot: \S+NEXTVLAD_step1/);
    assert.deepEqual((await checkSnapshot(pathAt(1))).step, 1);
    const file = await SafetensorsFile.open(join(pathAt(1), "weights.safetensors"));
    assert.deepEqual((await file.read("logits_clf_bias")).data, then);
    await file.close();
    bias.upload(then);
  });

  test("saves the state as it is once the previous snapshot is written, and no state twice", async (t) => {
    const { saver, state, save, pathAt, snapshots, log } = await prepare(t);
    await save(1);
    const tensors = countTensors();
    const second = save(5);
    assert.ok(!existsSync(pathAt(1)));
    state.run = stateAt(2);
    await second;
    assert.ok(existsSync(pathAt(1)));
    await save(2);
    await saver.flush();
    assert.deepEqual(snapshots().sort(), ["NEXTVLAD_step1", "NEXTVLAD_step2"]);
    assert.equal(log().match(/snapshot: /g)?.length, 2);
    assert.equal(countTensors(), tensors, "tensors are left behind");
  });

  test("the snapshot that the run resumed from counts as saved only if it is in the save-dir", async (t) => {
    const directory = temporaryFolder(t);
    for (const [parent, expected] of [
      [directory, []],
      [join(directory, "other"), ["NEXTVLAD_step5"]],
    ] as const) {
      const resumedFrom = join(parent, "NEXTVLAD_step5");
      const { saver, save, snapshots } = await prepare(t, { saveDir: directory, resumedFrom }, stateAt(5));
      assert.equal(saver.lastWritten, resumedFrom);
      await save(5);
      await saver.flush();
      assert.deepEqual(snapshots(), expected);
      rmSync(join(directory, ".nextvlad.lock"), { force: true });
    }
  });

  test("keeps the newest snapshots, and logs which it removes", async (t) => {
    const { saver, save, snapshots, log } = await prepare(t, { keep: 2 });
    for (const step of [1, 2, 3]) await save(step);
    await saver.flush();
    assert.deepEqual(snapshots().sort(), ["NEXTVLAD_step2", "NEXTVLAD_step3"]);
    assert.deepEqual(log().match(/removed because .*/g), ["removed because of --keep 2: NEXTVLAD_step1"]);
  });

  test("a failed write is retried, then reported by the next call, with the last complete snapshot; nothing is removed", async (t) => {
    const { saver, save, saveDir, pathAt, log } = await prepare(t, { keep: 1 });
    await save(1);
    await saver.flush();
    // A directory without its lock is treated as removed.
    rmSync(join(saveDir, ".nextvlad.lock"));
    await save(2);
    const error = await failsWith(saver.flush(), "FILE_UNWRITABLE");
    assert.match(log(), /WARN: cannot write snapshot \S+NEXTVLAD_step2, retrying in 0\.001 s/);
    assert.match(error.message, /writing a snapshot failed twice: .*the last complete snapshot is \S+NEXTVLAD_step1/);
    for (const next of [() => save(3), () => saver.flush(), () => saver.saveIfDue()]) await assert.rejects(next, error);
    await saver.close();
    assert.equal(saver.lastWritten, pathAt(1));
    assert.ok(existsSync(pathAt(1)));
  });

  test("the error says if there is no earlier snapshot", async (t) => {
    const { saver, save, saveDir } = await prepare(t);
    rmSync(saveDir, { recursive: true });
    await save(1);
    const error = await failsWith(saver.flush(), "FILE_UNWRITABLE");
    assert.doesNotMatch(error.message, /NEXTVLAD_/);
    mkdirSync(saveDir);
  });

  test("keeps the first failure", async (t) => {
    const first = new Error("first");
    const errors = [first, new Error("second")];
    const beforeSave = async (): Promise<void> => {
      const error = errors.shift();
      if (error !== undefined) throw error;
    };
    const { saver, snapshots, save } = await prepare(t, { beforeSave });
    await saver.saveIfDue();
    await saver.saveOnRequest();
    await saver.saveOnRequest();
    await assert.rejects(save(1), first);
    assert.deepEqual(snapshots(), []);
  });

  test("never writes non-finite weights, whichever array they are in", async (t) => {
    const variable = store.variable("logits_clf_bias");
    const good = variable.download();
    variable.upload(good.map((value, i) => (i === 2 ? Number.NaN : value)));
    const { saver, save, snapshots } = await prepare(t);
    assert.match((await failsWith(save(7), "NOT_FINITE")).message, /^after 7 steps/);
    variable.upload(good);
    const other = store.variable("gating_fc1_weights");
    const whole = other.download();
    other.upload(whole.map((value, i) => (i === 2 ? Number.POSITIVE_INFINITY : value)));
    await save(7);
    await failsWith(saver.flush(), "NOT_FINITE", { parameter: "gating_fc1_weights" });
    other.upload(whole);
    assert.deepEqual(snapshots(), []);
  });

  test("never writes finite weights with non-finite logits", async (t) => {
    const hidden = store.variable("hidden1_fc_weights");
    const good = hidden.download();
    hidden.upload(good.map((_, i) => (i % 2 === 0 ? 3e38 : -3e38)));
    const { saver, save, snapshots } = await prepare(t);
    assert.match((await failsWith(save(7), "NOT_FINITE")).message, /^after 7 steps the model computes NaN or Inf/);
    hidden.upload(good);
    await save(8);
    await saver.flush();
    assert.deepEqual(snapshots(), ["NEXTVLAD_step8"]);
  });

  test("closing waits for the snapshot in flight, and starts no other", async (t) => {
    const { saver, save, pathAt, snapshots } = await prepare(t);
    await save(1);
    const waiting = save(2);
    await saver.close();
    await waiting;
    assert.equal(saver.lastWritten, pathAt(1));
    await save(3);
    await saver.flush();
    assert.deepEqual(snapshots(), ["NEXTVLAD_step1"]);
  });
});

test("a save is due at the run's steps, or by the clock; not at the start of an epoch, which has a snapshot", () => {
  const isDue = (interval: SaverOptions["saveInterval"], step: number, step_in_epoch: number, elapsedMs: number): boolean =>
    isSaveDue(interval, { ...stateAt(step), step_in_epoch }, elapsedMs);
  assert.deepEqual(
    [4, 5, 6, 10].map((step) => isDue({ steps: 5 }, step, step, 1e9)),
    [false, true, false, true],
  );
  assert.equal(isDue({ steps: 5 }, 10, 0, 1e9), false);
  assert.equal(isDue({ ms: 1000 }, 3, 3, 999), false);
  assert.equal(isDue({ ms: 1000 }, 3, 3, 1000), true);
  assert.equal(isDue({ ms: 1000 }, 3, 0, 1000), false);
  assert.equal(isDue(null, 5, 5, 1e9), false);
});
