import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, type TestContext, test } from "node:test";
import { lockFolder } from "../../src/base/lock.js";
import type { RunState } from "../../src/checkpoints/snapshot.js";
import { checkSnapshot } from "../../src/checkpoints/snapshot.js";
import { SafetensorsFile } from "../../src/formats/tensors/safetensors.js";
import { chooseKernels } from "../../src/kernels/choose.js";
import { CLASSIFIER_BIAS } from "../../src/model/parameters.js";
import type { WeightStore } from "../../src/model/weights.js";
import { Adam } from "../../src/optim/adam.js";
import { Saver, type SaverOptions } from "../../src/training/saver.js";
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

describe("the saver of a training", () => {
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
  async function prepare(t: TestContext, overrides: Partial<SaverOptions> = {}, state = stateAt(0)) {
    const saveDir = overrides.saveDir ?? temporaryFolder(t);
    const lock = await lockFolder(saveDir);
    t.after(() => lock.release());
    const { telemetry, log } = await captureTelemetry();
    const writtenBy = { nextvlad: "0", node: "0", tensorflow: "0", device: "cpu" };
    const fixed = {
      saveDir,
      lockText: lock.text,
      keep: null,
      configYaml: "a: 1\n",
      model: { sizes: SMALL, dropRate: 0.5 },
      writtenBy,
      telemetry,
      resumedFrom: null,
      retryMs: 1,
    };
    const saver = new Saver({ ...fixed, ...overrides }, { store, optimizer: adam, kernels: chooseKernels(), state });
    const pathAt = (step: number): string => join(saveDir, `NEXTVLAD_step${step}`);
    const begin = (step: number): Promise<void> => saver.begin(() => ({ path: pathAt(step), state: stateAt(step) }));
    const snapshots = (): string[] => readdirSync(saveDir).filter((name) => name.startsWith("NEXTVLAD_"));
    return { saver, saveDir, begin, pathAt, snapshots, log };
  }

  test("copies the arrays when a save begins: training on does not change the snapshot", async (t) => {
    const { saver, begin, pathAt, log } = await prepare(t);
    const bias = store.variable(CLASSIFIER_BIAS);
    const then = bias.download();
    await begin(1);
    bias.upload(then.map((value) => value + 1));
    assert.equal(saver.lastWritten, null);
    await saver.settle();
    assert.equal(saver.lastWritten, pathAt(1));
    assert.match(log(), /INFO: snapshot: \S+NEXTVLAD_step1/);
    assert.deepEqual((await checkSnapshot(pathAt(1))).step, 1);
    const file = await SafetensorsFile.open(join(pathAt(1), "weights.safetensors"));
    assert.deepEqual((await file.read(CLASSIFIER_BIAS)).data, then);
    await file.close();
    bias.upload(then);
  });

  test("asks for the place only when the snapshot before is written, and saves no place twice", async (t) => {
    const { saver, begin, pathAt, snapshots } = await prepare(t);
    await begin(1);
    let asked = false;
    const second = saver.begin(() => {
      asked = true;
      assert.ok(existsSync(pathAt(1)));
      return { path: pathAt(2), state: stateAt(2) };
    });
    assert.equal(asked, false);
    await second;
    await saver.begin(() => ({ path: `${pathAt(2)}0`, state: stateAt(2) }));
    await saver.settle();
    assert.deepEqual(snapshots().sort(), ["NEXTVLAD_step1", "NEXTVLAD_step2"]);
  });

  test("a snapshot that the run resumes from is saved already only in its own save-dir", async (t) => {
    const folder = temporaryFolder(t);
    for (const [parent, expected] of [
      [folder, []],
      [join(folder, "other"), ["NEXTVLAD_step5"]],
    ] as const) {
      const resumedFrom = join(parent, "NEXTVLAD_step5");
      const { saver, begin, snapshots } = await prepare(t, { saveDir: folder, resumedFrom }, stateAt(5));
      assert.equal(saver.lastWritten, resumedFrom);
      await begin(5);
      await saver.settle();
      assert.deepEqual(snapshots(), expected);
      rmSync(join(folder, ".nextvlad.lock"), { force: true });
    }
  });

  test("keeps the newest snapshots, and says which it removes", async (t) => {
    const { saver, begin, snapshots, log } = await prepare(t, { keep: 2 });
    for (const step of [1, 2, 3]) await begin(step);
    await saver.settle();
    assert.deepEqual(snapshots().sort(), ["NEXTVLAD_step2", "NEXTVLAD_step3"]);
    assert.deepEqual(log().match(/removed, .*/g), ["removed, as --keep is 2: NEXTVLAD_step1"]);
  });

  test("a failure is tried again, then reported by what comes next, with the last whole snapshot; nothing is removed", async (t) => {
    const { saver, begin, saveDir, pathAt, log } = await prepare(t, { keep: 1 });
    await begin(1);
    await saver.settle();
    // A folder without its lock is treated as removed.
    rmSync(join(saveDir, ".nextvlad.lock"));
    await begin(2);
    const error = await failsWith(saver.settle(), "FILE_UNWRITABLE");
    assert.match(log(), /WARN: the snapshot \S+NEXTVLAD_step2 could not be written, once more in 0\.001 s/);
    assert.match(error.message, /a snapshot failed twice: .*the last whole snapshot is \S+NEXTVLAD_step1/);
    for (const next of [() => begin(3), () => saver.settle(), async () => saver.refuseFailed()]) await assert.rejects(next, error);
    await saver.close();
    assert.equal(saver.lastWritten, pathAt(1));
    assert.ok(existsSync(pathAt(1)));
  });

  test("without an earlier snapshot, the error says so", async (t) => {
    const { saver, begin, saveDir } = await prepare(t);
    rmSync(saveDir, { recursive: true });
    await begin(1);
    const error = await failsWith(saver.settle(), "FILE_UNWRITABLE");
    assert.doesNotMatch(error.message, /NEXTVLAD_/);
    mkdirSync(saveDir);
  });

  test("keeps the first failure", async (t) => {
    const { saver, snapshots, begin } = await prepare(t);
    saver.refuseFailed();
    const first = new Error("first");
    saver.fail(first);
    saver.fail(new Error("second"));
    await assert.rejects(begin(1), first);
    assert.deepEqual(snapshots(), []);
  });

  test("never writes weights that are not finite, whichever array they are in", async (t) => {
    const variable = store.variable(CLASSIFIER_BIAS);
    const good = variable.download();
    variable.upload(good.map((value, i) => (i === 2 ? Number.NaN : value)));
    const { saver, begin, snapshots } = await prepare(t);
    assert.match((await failsWith(begin(7), "NOT_FINITE")).message, /^after 7 steps/);
    variable.upload(good);
    const other = store.variable("gating_fc1_weights");
    const whole = other.download();
    other.upload(whole.map((value, i) => (i === 2 ? Number.POSITIVE_INFINITY : value)));
    await begin(7);
    await failsWith(saver.settle(), "NOT_FINITE", { parameter: "gating_fc1_weights" });
    other.upload(whole);
    assert.deepEqual(snapshots(), []);
  });

  test("never writes weights that are finite and so large that the logits are not", async (t) => {
    const hidden = store.variable("hidden1_fc_weights");
    const good = hidden.download();
    hidden.upload(good.map((_, i) => (i % 2 === 0 ? 3e38 : -3e38)));
    const { saver, begin, snapshots } = await prepare(t);
    assert.match((await failsWith(begin(7), "NOT_FINITE")).message, /^after 7 steps the model computes NaN or Inf/);
    hidden.upload(good);
    await begin(8);
    await saver.settle();
    assert.deepEqual(snapshots(), ["NEXTVLAD_step8"]);
  });

  test("closing waits for the snapshot in flight, and begins no other", async (t) => {
    const { saver, begin, pathAt, snapshots } = await prepare(t);
    await begin(1);
    const waiting = begin(2);
    await saver.close();
    await waiting;
    assert.equal(saver.lastWritten, pathAt(1));
    await begin(3);
    await saver.settle();
    assert.deepEqual(snapshots(), ["NEXTVLAD_step1"]);
  });
});
