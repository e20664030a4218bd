import assert from "node:assert/strict";
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { openWeights } from "../../src/checkpoints/open-weights.js";
import { copyToBest, type RunState, writeSnapshot } from "../../src/checkpoints/snapshot.js";
import type { WeightSource } from "../../src/checkpoints/weight-source.js";
import { formatConfig } from "../../src/config/keys.js";
import { buildConfig } from "../../src/config/load.js";
import type { Config } from "../../src/config/schema.js";
import { encodeSafetensors } from "../../src/formats/tensors/safetensors.js";
import { chooseKernels } from "../../src/kernels/choose.js";
import { parameterTable } from "../../src/model/network.js";
import { modelSizes } from "../../src/model/sizes.js";
import { Adam } from "../../src/optim/adam.js";
import { checkSaveDir, createState, readResumedRun, type StartOptions, type TrainingState } from "../../src/training/state.js";
import { randomStore } from "../helpers/blocks.js";
import { loadForTests } from "../helpers/device.js";
import { temporaryFolder } from "../helpers/files.js";
import { goldenFolder } from "../helpers/golden.js";
import { encodeNpy } from "../helpers/npy.js";
import { failsWith } from "../helpers/shards.js";
import { captureTelemetry } from "../helpers/training.js";

const MODEL = {
  num_classes: 7,
  cluster_size: 3,
  groups: 4,
  expansion: 2,
  hidden_size: 12,
  gating_reduction: 4,
  video_feature_size: 12,
  audio_feature_size: 6,
};

const configWith = (train: Record<string, unknown> = {}, model: Record<string, unknown> = {}): Config =>
  buildConfig({ MODEL: { ...MODEL, ...model }, TRAIN: { batch_size: 16, seed: 5, ...train } }, "c.yaml");

const STATE: RunState = { step: 8, epoch: 1, step_in_epoch: 2, seed: 5, best: null, validated_epoch: 0, shards: null };

describe("the start of training", () => {
  let folder: string;
  /** Weights and moments of a run at step 8, within epoch 1. */
  let arrays: Map<string, { readonly shape: readonly number[]; readonly values: Float32Array<ArrayBuffer> }>;
  const isMoment = (name: string): boolean => /_moment\d_0$/.test(name);
  const at = (...names: string[]): string => join(folder, ...names);

  async function write(path: string, state: Partial<RunState> = {}, train: Record<string, unknown> = {}, comment = ""): Promise<void> {
    const sources = Array.from(arrays, ([name, { shape, values }]) => ({ name, shape, download: () => values }));
    await writeSnapshot(path, {
      weights: sources.filter(({ name }) => !isMoment(name)),
      moments: sources.filter(({ name }) => isMoment(name)),
      state: { ...STATE, ...state },
      configYaml: formatConfig(configWith(train)) + comment,
    });
  }

  before(async () => {
    await loadForTests();
    folder = mkdtempSync(join(tmpdir(), "start-"));
    const store = randomStore(modelSizes(configWith().MODEL));
    const adam = new Adam(store, chooseKernels());
    let value = 0;
    for (const moment of adam.arrays()) moment.upload(Float32Array.from(moment.download(), () => (value += 1e-3)));
    arrays = new Map([...store.arrays(), ...adam.arrays()].map(({ name, shape, download }) => [name, { shape, values: download() }]));
    adam.dispose();
    store.dispose();
    await write(at("run", "NEXTVLAD_step8"));
    await write(at("run", "NEXTVLAD_epoch0"), { step: 6, step_in_epoch: 0, epoch: 1 });
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  async function options(overrides: Partial<StartOptions> = {}): Promise<StartOptions & { readonly log: () => string }> {
    const { telemetry, log } = await captureTelemetry();
    const none = { resume: null, resumeStep: null, skippedSnapshots: [], pretrain: null, overwrite: false };
    return { saveDir: at("new"), ...none, telemetry, ...overrides, log };
  }

  async function resuming(path: string, overrides: Partial<StartOptions> = {}) {
    return options({ saveDir: at("run"), resume: await openWeights(path, { optimizer: true }), ...overrides });
  }

  async function check(config: Config, given: StartOptions) {
    try {
      return await checkSaveDir(config, given);
    } finally {
      await given.resume?.close();
      await given.pretrain?.close();
    }
  }

  describe("checkSaveDir", () => {
    test("conflicting flags are an error", async () => {
      await failsWith(check(configWith(), await options({ resumeStep: 3 })), "BAD_USAGE", { key: "--resume-step" });
      const pretrain = await openWeights(at("run", "NEXTVLAD_epoch0"), { optimizer: false });
      await failsWith(check(configWith(), await resuming(at("run", "NEXTVLAD_step8"), { pretrain })), "BAD_USAGE");
      await failsWith(check(configWith(), await resuming(at("run", "NEXTVLAD_step8"), { resumeStep: 3 })), "BAD_USAGE");
    });

    test("another run's snapshots conflict, unless they may be overwritten or are corrupt", async () => {
      const error = await failsWith(check(configWith(), await options({ saveDir: at("run") })), "SAVE_DIR_TAKEN", { file: at("run") });
      assert.match(error.message, /NEXTVLAD_epoch0, NEXTVLAD_step8/);
      const allowed = await check(configWith(), await options({ saveDir: at("run"), overwrite: true }));
      assert.deepEqual(allowed, { resumed: null, conflictingSnapshots: ["NEXTVLAD_epoch0", "NEXTVLAD_step8"] });
      const skipped = allowed.conflictingSnapshots;
      const checked = await check(configWith(), await options({ saveDir: at("run"), skippedSnapshots: skipped }));
      assert.deepEqual(checked.conflictingSnapshots, []);
      assert.deepEqual(await check(configWith(), await options()), { resumed: null, conflictingSnapshots: [] });
    });

    test("a config or a best that train did not write conflicts, unless it may be overwritten", async (t) => {
      const saveDir = temporaryFolder(t);
      const config = join(saveDir, "config.yaml");
      const start = async (overwrite = false) => check(configWith(), await options({ saveDir, overwrite }));
      const own = formatConfig(configWith());
      for (const text of ["# mine\nMODEL:\n  num_classes: 7\n", `${own}# kept\n`, own.replaceAll(/ *#.*\n/g, ""), "not: a config\n", ""]) {
        writeFileSync(config, text);
        const error = await failsWith(start(), "FILE_UNWRITABLE", { file: config });
        assert.match(error.message, /the file already exists\. Use another path, or replace it with --overwrite/);
        await start(true);
      }
      writeFileSync(config, own);
      await start();
      writeFileSync(config, formatConfig(configWith({ batch_size: 3 })));
      await start();
      // Versions before --max-record-bytes did not write this key; other versions wrote other comments.
      const before = own.replace(/ *#.*\n *max_record_bytes:.*\n/, "").replace("# epochs to train", "# epochs");
      assert.ok(own.length - before.length > 50);
      writeFileSync(config, before);
      await start();
      // A resumed run recognizes its own config, also that of an earlier version.
      const old = "MODEL:\n  num_classes: 7\n";
      const snapshot = join(saveDir, "NEXTVLAD_step8");
      await write(snapshot, {}, {}, "# old\n");
      const resume = async () => check(configWith(), await resuming(snapshot, { saveDir }));
      await resume();
      writeFileSync(config, readFileSync(join(snapshot, "config.yaml")));
      await resume();
      writeFileSync(config, old);
      await failsWith(resume(), "FILE_UNWRITABLE", { file: config });
      rmSync(config);
      mkdirSync(join(saveDir, "best"));
      await resume();
      writeFileSync(join(saveDir, "best", "photo.jpg"), "mine");
      await failsWith(resume(), "SAVE_DIR_TAKEN", { file: join(saveDir, "best") });
      // A corrupt snapshot named `best` counts as ours.
      writeFileSync(join(saveDir, "best", "weights.safetensors"), "half");
      await resume();
    });

    test("snapshots later than the one resumed from conflict, also best", async () => {
      const last = await check(configWith(), await resuming(at("run", "NEXTVLAD_step8")));
      assert.deepEqual([last.resumed?.run, last.conflictingSnapshots], [STATE, []]);
      // One later snapshot is enough.
      await failsWith(check(configWith(), await resuming(at("run", "NEXTVLAD_epoch0"))), "SAVE_DIR_TAKEN");
      cpSync(at("run"), at("later"), { recursive: true });
      // Epoch 1 ends after step 8; the resumed snapshot is at step 6.
      await write(at("later", "NEXTVLAD_epoch1"), { step: 12, epoch: 2, step_in_epoch: 0 });
      await write(at("later", "NEXTVLAD_step6"), { step: 6, epoch: 1, step_in_epoch: 0 });
      const given = async (overrides: Partial<StartOptions> = {}) =>
        check(configWith(), await resuming(at("later", "NEXTVLAD_epoch0"), { saveDir: at("later"), ...overrides }));
      const error = await failsWith(given(), "SAVE_DIR_TAKEN");
      assert.match(error.message, /later than the one to resume from: NEXTVLAD_epoch1, NEXTVLAD_step8\. /);
      for (const [step, expected] of [
        [6, ["NEXTVLAD_epoch1", "NEXTVLAD_step8"]],
        [7, ["NEXTVLAD_epoch1", "NEXTVLAD_step8", "best"]],
      ] as const) {
        rmSync(at("later", "best"), { recursive: true, force: true });
        await copyToBest(at("later", "NEXTVLAD_epoch0"), at("later"), { ...STATE, step });
        assert.deepEqual([...(await given({ overwrite: true })).conflictingSnapshots].sort(), expected);
      }
    });

    test("a resumed run cannot change its seed, nor inside an epoch the settings that the order of videos depends on", async () => {
      const resume = (name: string, train: Record<string, unknown>) =>
        resuming(at("run", name)).then((given) => check(configWith(train), given));
      const refused = async (name: string, train: Record<string, unknown>, key: string, expected: string, found: string): Promise<void> =>
        void (await failsWith(resume(name, train), "BAD_CONFIG", { key, expected, found }));
      await refused("NEXTVLAD_epoch0", { seed: 6 }, "TRAIN.seed", "5", "6");
      await refused("NEXTVLAD_step8", { batch_size: 8, shuffle_buffer: 9 }, "TRAIN.batch_size", "16", "8");
      await write(at("run", "NEXTVLAD_step9"), { step: 9 }, { shuffle_buffer: 7, on_corrupt: "skip-record" });
      await refused("NEXTVLAD_step9", { shuffle_buffer: 9 }, "TRAIN.shuffle_buffer", "7", "9");
      await refused("NEXTVLAD_step9", { shuffle_buffer: 7, on_corrupt: "error" }, "TRAIN.on_corrupt", "skip-record", "error");
      await resume("NEXTVLAD_step9", { shuffle_buffer: 7, on_corrupt: "skip-record" });
      // A policy other than "error" may be introduced at any time; the other settings may change between epochs.
      await write(at("run", "NEXTVLAD_step9"), { step: 9 }, { shuffle_buffer: 7 });
      await resume("NEXTVLAD_step9", { shuffle_buffer: 7, on_corrupt: "skip-record" });
      rmSync(at("run", "NEXTVLAD_step9"), { recursive: true });
      const free = await resuming(at("run", "NEXTVLAD_epoch0"), { overwrite: true });
      await check(configWith({ batch_size: 8, shuffle_buffer: 9, on_corrupt: "skip-shard" }), free);
    });
  });

  describe("createState", () => {
    const valuesOf = ({ store, optimizer }: TrainingState): Map<string, Float32Array> => {
      const values = new Map([...store.arrays(), ...optimizer.arrays()].map(({ name, download }) => [name, download()]));
      optimizer.dispose();
      store.dispose();
      return values;
    };
    /** Opens a source that records whether it was closed. */
    async function watched(path: string, optimizer: boolean): Promise<{ source: WeightSource; closed: () => boolean }> {
      const source = await openWeights(path, { optimizer });
      let isClosed = false;
      const close = (): Promise<void> => {
        isClosed = true;
        return source.close();
      };
      return { source: { ...source, entries: source.entries, read: (names) => source.read(names), close }, closed: () => isClosed };
    }

    test("initial values are a function of the seed; eigen_param is the configured factor", async () => {
      const fresh = async (train: Record<string, unknown>, model: Record<string, unknown> = {}) =>
        valuesOf(await createState(configWith(train, { eigen_file: null, ...model }), null, chooseKernels(), await options()));
      const [one, same, other] = [await fresh({}), await fresh({}), await fresh({ seed: 6 })];
      assert.deepEqual(one, same);
      for (const { name, initializer, shape } of parameterTable(modelSizes(configWith().MODEL))) {
        const values = one.get(name) as Float32Array;
        if (initializer === "msra") {
          assert.notDeepEqual(values, other.get(name), name);
          // Standard deviation sqrt(2 / fan-in), within five standard errors.
          const deviation = Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0) / values.length);
          const expected = Math.sqrt(2 / (shape[0] as number));
          assert.ok(
            Math.abs(deviation - expected) < (5 * expected) / Math.sqrt(2 * values.length),
            `${name}: ${deviation}, not ${expected}`,
          );
        } else {
          assert.ok(
            values.every((value) => value === (initializer === "zeros" ? 0 : 1)),
            name,
          );
        }
      }
      for (const [name, values] of one)
        if (isMoment(name))
          assert.ok(
            values.every((value) => value === 0),
            name,
          );
      writeFileSync(
        at("eigen.npy"),
        encodeNpy(
          Float32Array.from({ length: 12 }, (_, i) => 4 ** (i % 3)),
          [12],
        ),
      );
      const factor = (await fresh({}, { eigen_file: at("eigen.npy") })).get("eigen_param") as Float32Array;
      assert.ok(
        factor.every((value, i) => Math.abs(value - (2 ** (i % 3) + 1e-4)) < 1e-6),
        String(factor),
      );
    });

    test("resuming restores every array and moment and the state, and closes the source", async () => {
      const { source, closed } = await watched(at("run", "NEXTVLAD_step8"), true);
      const given = await options({ resume: source });
      const state = await createState(configWith(), { run: STATE, writtenBy: null, source: "a test" }, chooseKernels(), given);
      assert.deepEqual(state.run, STATE);
      assert.deepEqual(valuesOf(state), new Map(Array.from(arrays, ([name, { values }]) => [name, values])));
      assert.ok(closed());
      assert.match(given.log(), /resuming from \S+NEXTVLAD_step8: epoch 1, step 8 \(a test\)/);
      const other = await options({ resume: await openWeights(at("run", "NEXTVLAD_step8"), { optimizer: true }) });
      const misfit = createState(configWith({}, { num_classes: 8 }), { run: STATE, writtenBy: null, source: "" }, chooseKernels(), other);
      await failsWith(misfit, "BAD_WEIGHTS");
      await other.resume?.close();
    });

    test("pretrained weights fill the arrays that match, the others are initialized, and all counts start at 0", async () => {
      const fresh = valuesOf(await createState(configWith({}, { eigen_file: null }), null, chooseKernels(), await options()));
      const { source, closed } = await watched(at("run", "NEXTVLAD_step8"), false);
      const given = await options({ pretrain: source });
      const state = await createState(configWith({}, { num_classes: 8, eigen_file: "nowhere.npy" }), null, chooseKernels(), given);
      assert.deepEqual(state.run, { step: 0, epoch: 0, step_in_epoch: 0, seed: 5, best: null, validated_epoch: null, shards: null });
      assert.ok(closed());
      const values = valuesOf(state);
      for (const [name, { values: pretrained }] of arrays) {
        const found = values.get(name) as Float32Array;
        if (name.startsWith("logits_clf_")) assert.equal(found.length, (pretrained.length / 7) * 8);
        else assert.deepEqual(found, isMoment(name) ? fresh.get(name) : pretrained, name);
      }
      assert.match(given.log(), /40 of 42 arrays/);
    });

    test("snapshots with non-finite values or logits are an error that names the newest valid one before", async () => {
      const good = arrays;
      const spoil = (name: string, change: (value: number, i: number) => number): void => {
        const { shape, values } = good.get(name) as { shape: readonly number[]; values: Float32Array<ArrayBuffer> };
        arrays = new Map(good).set(name, { shape, values: values.map(change) });
      };
      try {
        await write(at("diverged", "NEXTVLAD_step7"), { step: 7 });
        spoil("gating_fc2_weights", (value, i) => (i === 3 ? Number.NaN : value));
        await write(at("diverged", "NEXTVLAD_step8"));
        spoil("hidden1_fc_weights", (_, i) => (i % 2 === 0 ? 3e38 : -3e38));
        await write(at("diverged", "NEXTVLAD_step9"), { step: 9 });
        spoil("hidden1_fc_weights_moment2_0", () => Number.POSITIVE_INFINITY);
        await write(at("diverged", "NEXTVLAD_step10"), { step: 10 });
      } finally {
        arrays = good;
      }
      for (const [name, words, earlier] of [
        ["NEXTVLAD_step8", /gating_fc2_weights: the weights contain NaN or Inf.*found NaN at index 3/, "NEXTVLAD_step7"],
        ["NEXTVLAD_step9", /the model computes NaN or Inf from these weights/, "NEXTVLAD_step7"],
        ["NEXTVLAD_step10", /hidden1_fc_weights_moment2_0: the weights contain NaN or Inf.*found Infinity at index 0/, "NEXTVLAD_step9"],
      ] as const) {
        const source = await openWeights(at("diverged", name), { optimizer: true });
        const starting = createState(
          configWith(),
          { run: STATE, writtenBy: null, source: "" },
          chooseKernels(),
          await options({ resume: source }),
        );
        const { message } = await failsWith(starting, "NOT_FINITE", { file: at("diverged", name) });
        assert.match(message, words);
        assert.ok(message.includes(`Use the newest valid snapshot before it: ${at("diverged", earlier)}.`), message);
        await source.close();
      }
    });

    test("a warning names a single missing array", async () => {
      const kept = Array.from(arrays).filter(([name]) => !isMoment(name) && name !== "gating_fc2_weights");
      const tensors = kept.map(([name, { shape, values }]) => ({ name, dtype: "F32" as const, shape, data: values }));
      writeFileSync(at("part.safetensors"), Buffer.concat([...encodeSafetensors(tensors)]));
      const given = await options({ pretrain: (await watched(at("part.safetensors"), false)).source });
      valuesOf(await createState(configWith(), null, chooseKernels(), given));
      assert.match(given.log(), /WARN: .*gating_fc2_weights \[3, 12\] is missing/);
    });

    test("pretrained weights of which no array matches are an error", async () => {
      const data = Float32Array.of(1);
      writeFileSync(at("alien.safetensors"), Buffer.concat([...encodeSafetensors([{ name: "x", dtype: "F32", shape: [1], data }])]));
      const { source } = await watched(at("alien.safetensors"), false);
      const started = createState(configWith(), null, chooseKernels(), await options({ pretrain: source }));
      await failsWith(started, "BAD_WEIGHTS", { file: at("alien.safetensors") });
      await source.close();
    });
  });
});

test("Paddle's checkpoints resume at the step of their optimizer, and at the epoch of their name", async (t) => {
  const folder = temporaryFolder(t);
  for (const [name, epoch, words] of [
    ["checkpoint3", 0, /epochs count from 0/],
    ["NEXTVLAD_epoch5", 6, /epoch from the file name/],
    ["NEXTVLAD_epoch_0", 1, /epoch from the file name/],
  ] as const) {
    for (const ending of ["pdparams.gz", "pdopt.gz"])
      copyFileSync(fileURLToPath(new URL(`checkpoint3.${ending}`, goldenFolder("resume"))), join(folder, `${name}.${ending}`));
    const source = await openWeights(join(folder, `${name}.pdparams.gz`), { optimizer: true });
    const { run, writtenBy, source: text } = await readResumedRun(source, 9, null);
    await source.close();
    const validated_epoch = epoch === 0 ? null : epoch - 1;
    assert.deepEqual(run, { step: 3, epoch, step_in_epoch: 0, seed: 9, best: null, validated_epoch, shards: null });
    assert.equal(writtenBy, null);
    assert.match(text, words);
  }
});
