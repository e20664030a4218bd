import assert from "node:assert/strict";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { checkSnapshot, readSnapshotState, rewriteState } from "../../src/checkpoints/snapshot.js";
import { writeShard } from "../../src/data/shard-writer.js";
import { runtime } from "../../src/runtime/runtime.js";
import { corruptData } from "../helpers/corrupt.js";
import { readEvents, shownSteps } from "../helpers/events.js";
import { needsPython } from "../helpers/python.js";
import { learnableVideo, prepareRun } from "../helpers/runs.js";
import { failsWith } from "../helpers/shards.js";
import { captureTelemetry, trainInProcess } from "../helpers/training.js";

/** 100 videos in batches of 16: 6 steps per epoch; the last, incomplete batch is dropped. */
const STEPS = 6;

const loggedSteps = (log: string): number[] => [...log.matchAll(/iter (\d+) /g)].map(([, step]) => Number(step));
const validatedEpochs = (log: string): number[] => [...log.matchAll(/\[VALID\] Epoch (\d+)/g)].map(([, epoch]) => Number(epoch));

describe("train", () => {
  let directory: string;
  let config: string;
  let straight: Awaited<ReturnType<typeof trainInProcess>>;
  const at = (...names: string[]): string => join(directory, ...names);
  const snapshotsIn = (saveDir: string): string[] => readdirSync(at(saveDir)).filter((name) => /^(NEXTVLAD_|best)/.test(name));
  const arraysOf = (saveDir: string, snapshot: string): Buffer[] =>
    ["weights", "optimizer"].map((name) => readFileSync(at(saveDir, snapshot, `${name}.safetensors`)));

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), "training-run-"));
    config = await prepareRun(directory);
    // The baseline for other runs: two epochs without interruption.
    straight = await trainInProcess(config, at("straight"), {
      validInterval: { epochs: 1 },
      logIntervalSteps: 4,
      histogramIntervalSteps: 5,
    });
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  test("writes a snapshot after each epoch with its position in the run, validates, and copies the best", async () => {
    assert.deepEqual(snapshotsIn("straight").sort(), ["NEXTVLAD_epoch0", "NEXTVLAD_epoch1", "best"]);
    for (const epoch of [0, 1]) {
      const state = await checkSnapshot(at("straight", `NEXTVLAD_epoch${epoch}`));
      const { step, step_in_epoch, seed, validated_epoch } = state;
      assert.deepEqual([state.epoch, step, step_in_epoch, seed, validated_epoch], [epoch + 1, STEPS * (epoch + 1), 0, 0, epoch]);
      assert.equal(state.shards?.count, 2);
      assert.equal(state.written_by?.nextvlad, "0.0.0");
    }
    const [first, second] = [0, 1].map((epoch) => readSnapshotState(at("straight", `NEXTVLAD_epoch${epoch}`)));
    const [gap, later] = [(await first)?.best?.gap as number, (await second)?.best];
    const best = await checkSnapshot(at("straight", "best"));
    assert.deepEqual(best.best, later);
    // The model learns, so the second epoch is better.
    assert.equal(later?.epoch, 1);
    assert.ok((later?.gap as number) > gap);
    assert.deepEqual(arraysOf("straight", "best"), arraysOf("straight", "NEXTVLAD_epoch1"));
  });

  test("logs every logIntervalSteps of an epoch, from its first step", () => {
    const { outcome, log } = straight;
    assert.deepEqual([outcome.epochs, outcome.steps, outcome.stopped, outcome.best?.epoch], [2, 2 * STEPS, false, 1]);
    assert.deepEqual(loggedSteps(log), [0, 4, 0, 4]);
    assert.deepEqual(validatedEpochs(log), [0, 1]);
    assert.doesNotMatch(log, /WARN/);
  });

  test("writes curves, histograms and the config for TensorBoard, with the step of each value", needsPython, () => {
    const events = readEvents(at("straight"));
    const shown = shownSteps(events);
    const trained = [...shown.keys()].flatMap((tag) => /^parameters\/(.*)/.exec(tag)?.slice(1) ?? []);
    assert.ok(trained.includes("hidden1_fc_weights") && trained.length === 29, String(trained));
    const averages = ["hit_at_one", "perr", "gap", "map", "loss"];
    const others = ["loss_smoothed", "learning_rate", "gradient_norm", "videos_per_second", "wait_share", "peak_memory_bytes"];
    const groups: [string, readonly string[], readonly number[]][] = [
      ["train", [...averages, ...others], [0, 4, 6, 10]],
      ["gradient_norm", trained, [0, 4, 6, 10]],
      ["validation", averages, [5, 11]],
      ["parameters", trained, [0, 5, 10]],
    ];
    const expected = groups.flatMap(([group, names, steps]) => names.map((name) => [`${group}/${name}`, steps] as const));
    assert.deepEqual(Object.fromEntries(shown), Object.fromEntries(expected));
    assert.deepEqual(
      events.flatMap(({ texts }) => Object.values(texts)),
      [readFileSync(at("straight", "config.yaml"), "utf8").replaceAll(/^(?=.)/gm, "    ")],
    );
    const [first, second] = events.flatMap(({ scalars }) => (scalars["train/loss"] === undefined ? [] : [scalars]));
    const numberIn = (scalars: typeof first, name: string): number => scalars?.[name] as number;
    // float32 of the values that are in the log.
    const logged = / loss = ([\d.]+), Hit/.exec(straight.log)?.[1];
    assert.equal(numberIn(first, "train/loss").toFixed(6), logged);
    assert.equal(numberIn(first, "train/loss_smoothed"), numberIn(first, "train/loss"));
    const smoothed = 0.9 * numberIn(first, "train/loss") + 0.1 * numberIn(second, "train/loss");
    assert.ok(Math.abs(numberIn(second, "train/loss_smoothed") / smoothed - 1) < 1e-6);
    const norms = trained.map((name) => numberIn(first, `gradient_norm/${name}`));
    // The sum of 29 rounded squares.
    assert.ok(Math.abs(Math.hypot(...norms) / numberIn(first, "train/gradient_norm") - 1) < 1e-5);
    assert.ok(numberIn(first, "train/peak_memory_bytes") > 2 ** 26);
  });

  test("stops after max_iter steps inside an epoch, saves every saveInterval steps, resumes there to the same bytes, and keeps the newest", async () => {
    // With a save every 4 steps, step 4 is within an epoch, and step 12 is the end of one.
    const first = await trainInProcess(config, at("parts"), { settings: ["TRAIN.max_iter=9"], saveInterval: { steps: 4 } });
    assert.deepEqual(snapshotsIn("parts").sort(), ["NEXTVLAD_epoch0", "NEXTVLAD_step4", "NEXTVLAD_step8", "NEXTVLAD_step9"]);
    assert.deepEqual([first.outcome.epochs, first.outcome.steps, first.outcome.stopped], [1, 9, false]);
    assert.equal(first.outcome.lastSnapshot, at("parts", "NEXTVLAD_step9"));
    const { step, epoch, step_in_epoch } = await checkSnapshot(at("parts", "NEXTVLAD_step9"));
    assert.deepEqual([step, epoch, step_in_epoch], [9, 1, 3]);
    assert.deepEqual((await readSnapshotState(at("parts", "NEXTVLAD_step4"))).shards?.first_corrupt, []);
    const { outcome, log } = await trainInProcess(config, at("parts"), {
      resume: at("parts", "NEXTVLAD_step9"),
      saveInterval: { steps: 4 },
      keep: 2,
      // With only two epochs, no validation is due.
      validInterval: { epochs: 3 },
    });
    assert.deepEqual(validatedEpochs(log), []);
    assert.deepEqual([outcome.epochs, outcome.steps], [2, 2 * STEPS]);
    assert.deepEqual(loggedSteps(log), [3, 4, 5]);
    assert.deepEqual(arraysOf("parts", "NEXTVLAD_epoch1"), arraysOf("straight", "NEXTVLAD_epoch1"));
    assert.deepEqual(snapshotsIn("parts").sort(), ["NEXTVLAD_epoch1", "NEXTVLAD_step9"]);
  });

  test("finishes its step when stopped, saves once even if a save is requested at the same time, and does not validate", async () => {
    const stopping = new AbortController();
    const { telemetry } = await captureTelemetry();
    let [save, steps] = [(): void => undefined, 0];
    const titles: string[] = [];
    const update = (): void => {
      if (++steps !== 3) return;
      stopping.abort();
      save();
    };
    const { outcome } = await trainInProcess(config, at("stopped"), {
      telemetry: {
        ...telemetry,
        progress: { ...telemetry.progress, start: (title) => titles.push(title), end: () => titles.push("end"), update },
      },
      signal: stopping.signal,
      onSaveRequest: (given) => {
        save = given;
      },
      validInterval: { epochs: 1 },
    });
    assert.deepEqual([outcome.stopped, outcome.epochs, outcome.steps, outcome.best], [true, 0, 3, null]);
    assert.deepEqual(titles, ["train", "end"]);
    assert.deepEqual(snapshotsIn("stopped"), ["NEXTVLAD_step3"]);
    assert.equal((await checkSnapshot(outcome.lastSnapshot as string)).step_in_epoch, 3);
  });

  test("validates only epochs that validIntervalEpochs divides, counted from 1; a resumed run validates a missed epoch", async () => {
    const settings = ["TRAIN.epoch=1"];
    const first = await trainInProcess(config, at("later"), { validInterval: { epochs: 2 }, settings });
    assert.deepEqual([validatedEpochs(first.log), first.outcome.best], [[], null]);
    const resume = at("later", "NEXTVLAD_epoch0");
    const { log, outcome } = await trainInProcess(config, at("later"), { resume, validInterval: { epochs: 1 }, settings });
    assert.deepEqual([validatedEpochs(log), outcome.best?.epoch, outcome.best?.path], [[0], 0, at("later", "best")]);
    assert.equal(outcome.best?.gap, (await readSnapshotState(at("straight", "NEXTVLAD_epoch0"))).best?.gap);
    assert.equal((await checkSnapshot(resume)).validated_epoch, 0);
    // An epoch is validated only once, and the best counts only if its snapshot is in the save-dir.
    const again = await trainInProcess(config, at("later"), { resume, validInterval: { epochs: 1 }, settings });
    assert.deepEqual([validatedEpochs(again.log), again.outcome.best], [[], outcome.best]);
    rmSync(at("later", "best"), { recursive: true });
    const without = await trainInProcess(config, at("later"), { resume, validInterval: { epochs: 1 }, settings });
    assert.deepEqual([validatedEpochs(without.log), without.outcome.best], [[], null]);
  });

  test("a run that resumes from a snapshot of another save-dir does not change it when it validates", async () => {
    const source = at("stopped", "NEXTVLAD_epoch0");
    cpSync(at("straight", "NEXTVLAD_epoch0"), source, { recursive: true });
    await rewriteState(source, { ...(await readSnapshotState(source)), best: null, validated_epoch: null });
    const before = readFileSync(join(source, "state.json"));
    // A save is requested during validation, at the end of an epoch: the snapshot has the epoch's name.
    const { telemetry } = await captureTelemetry();
    let save = (): void => undefined;
    const { outcome } = await trainInProcess(config, at("onward"), {
      resume: source,
      validInterval: { epochs: 1 },
      settings: ["TRAIN.epoch=1"],
      telemetry: { ...telemetry, progress: { start: () => save(), end: () => undefined, update: () => undefined } },
      onSaveRequest: (given) => {
        save = given;
      },
    });
    assert.deepEqual(snapshotsIn("onward").sort(), ["NEXTVLAD_epoch0", "best"]);
    assert.equal(outcome.best?.path, at("onward", "best"));
    assert.deepEqual(readFileSync(join(source, "state.json")), before);
  });

  test("saves the last step before a data error, prints the commands that resume, and then counts what it skips", async () => {
    mkdirSync(at("damaged"));
    for (const name of ["train0.tfrecord", "train1.tfrecord", "train.list"]) cpSync(at(name), at("damaged", name));
    corruptData(at("damaged", "train1.tfrecord"), 49);
    const settings = [`TRAIN.filelist=${at("damaged", "train.list")}`, "TRAIN.epoch=1"];
    const error = await failsWith(trainInProcess(config, at("failed"), { settings }), "CORRUPT_RECORD");
    const [snapshot, ...others] = snapshotsIn("failed");
    assert.match(snapshot ?? "", /^NEXTVLAD_step\d$/);
    assert.deepEqual(others, []);
    const path = at("failed", snapshot as string);
    const steps = snapshot?.slice("NEXTVLAD_step".length);
    assert.ok(
      error.details.remedy?.endsWith(`; training stopped after ${steps} steps; the last snapshot is ${path}`),
      error.details.remedy,
    );
    assert.deepEqual(error.details.commands, [
      `resume with: nextvlad train --resume ${path}`,
      `or, to skip corrupt records: nextvlad train --resume ${path} --on-corrupt skip-record`,
    ]);
    const resumed = [...settings, "TRAIN.on_corrupt=skip-record"];
    const { outcome, log } = await trainInProcess(config, at("failed"), { resume: path, settings: resumed });
    // 99 videos also make 6 batches.
    assert.deepEqual([outcome.epochs, outcome.steps], [1, STEPS]);
    assert.match(log, /WARN: epoch 0: skipped 1 corrupt record/);
  });

  test("saves after an error between steps, but not within a step, where only some weights are updated", async () => {
    for (const [name, saved] of [
      ["between", ["NEXTVLAD_step3"]],
      ["inside", []],
      // Before its first step ends, a run leaves no config.
      ["inside-first", []],
      // The last earlier snapshot is still named.
      ["inside-later", ["NEXTVLAD_step2"]],
    ] as const) {
      const { telemetry, log } = await captureTelemetry();
      const unforeseen = new TypeError("unforeseen");
      let lines = 0;
      // A step's line is logged before the run's state is updated; the progress bar is updated afterwards.
      const info = (facts: object, line: string): void => {
        telemetry.log.info(facts, line);
        if (name !== "between" && line?.startsWith("[TRAIN]") && ++lines === (name === "inside-first" ? 1 : 3)) throw unforeseen;
      };
      let updates = 0;
      const update = (): void => {
        if (name === "between" && ++updates === 3) throw unforeseen;
      };
      const watched = {
        ...telemetry,
        log: Object.assign(Object.create(telemetry.log), { info }),
        progress: { ...telemetry.progress, update },
      };
      const saveInterval = name === "inside-later" ? { saveInterval: { steps: 2 } } : {};
      await assert.rejects(trainInProcess(config, at(name), { telemetry: watched, ...saveInterval }), unforeseen);
      assert.deepEqual(snapshotsIn(name), saved);
      assert.equal(readdirSync(at(name)).includes("config.yaml"), name !== "inside-first");
      assert.equal(log().includes(`WARN: resume with: nextvlad train --resume ${at(name, saved[0] ?? "")}\n`), saved.length > 0);
    }
  });

  test("a snapshot state with too many steps or epochs is corrupt", async () => {
    const source = at("forged", "NEXTVLAD_step9");
    cpSync(at("parts", "NEXTVLAD_step9"), source, { recursive: true });
    const { format_version, written_by, files, ...state } = await readSnapshotState(source);
    for (const [change, found] of [
      [{ step_in_epoch: STEPS + 1 }, { key: "step_in_epoch", expected: `at most ${STEPS}`, found: STEPS + 1 }],
      [{ epoch: 3 }, { key: "epoch", found: 3 }],
    ] as const) {
      await rewriteState(source, { ...state, ...change });
      await failsWith(trainInProcess(config, at("from-forged"), { resume: source }), "BAD_SNAPSHOT", { file: source, ...found });
      assert.deepEqual(snapshotsIn("from-forged"), []);
    }
    // A state may have all steps of the epoch before its end is recorded.
    await rewriteState(source, { ...state, step_in_epoch: STEPS });
    assert.equal((await trainInProcess(config, at("from-forged"), { resume: source })).outcome.epochs, 2);
  });

  test("resuming inside an epoch with a changed shard is an error", async () => {
    const source = at("changed", "NEXTVLAD_step9");
    cpSync(at("parts", "NEXTVLAD_step9"), source, { recursive: true });
    const { format_version, written_by, files, ...state } = await readSnapshotState(source);
    const { shards } = state;
    assert.equal(shards?.contents?.ends_crc32c.length, 2);
    const ends = ["00000000", ...(shards?.contents?.ends_crc32c.slice(1) ?? [])];
    for (const modified of [0, shards?.contents?.modified_ms[0] as number]) {
      const contents = { modified_ms: [modified, 0], ends_crc32c: ends };
      await rewriteState(source, { ...state, shards: { ...(shards as NonNullable<typeof shards>), contents } });
      const resuming = trainInProcess(config, at("from-changed"), { resume: source });
      if (modified === 0) await failsWith(resuming, "BAD_CONFIG", { file: at("train0.tfrecord"), key: "TRAIN.filelist" });
      else assert.equal((await resuming).outcome.epochs, 2);
    }
  });

  test("a run whose weights diverge saves none of them, and its error names the last valid snapshot", async () => {
    const resume = at("diverging", "NEXTVLAD_epoch0");
    cpSync(at("straight", "NEXTVLAD_epoch0"), resume, { recursive: true });
    for (const policy of ["skip-batch", "stop"]) {
      const settings = ["TRAIN.learning_rate=1e20", `TRAIN.on_nan=${policy}`];
      // The loss is not logged: with "stop", only the check before saving a snapshot detects the divergence.
      const running = trainInProcess(config, at("diverging"), { resume, settings, logIntervalSteps: 0, saveInterval: { steps: 2 } });
      assert.match(
        (await failsWith(running, "NOT_FINITE")).message,
        new RegExp(`Resume from the last valid snapshot \\(--resume ${resume}\\)`),
      );
      assert.deepEqual(snapshotsIn("diverging"), ["NEXTVLAD_epoch0"]);
    }
  });

  test("the start checks the precision and the memory", async (t) => {
    if (runtime().device.kind === "gpu") return t.skip("tf32 is an error on the CPU only");
    await failsWith(trainInProcess(config, at("tf32"), { settings: ["TRAIN.precision=tf32"] }), "BAD_USAGE", { key: "--precision" });
    assert.deepEqual(snapshotsIn("tf32"), []);
    const { telemetry, log } = await captureTelemetry();
    const settings = ["TRAIN.batch_size=10000000", "TRAIN.lr_boundary_examples=10000000"];
    await assert.rejects(trainInProcess(config, at("large-batch"), { settings, telemetry }), /fewer videos than one batch/);
    assert.match(log(), /WARN: a batch of 10000000 videos of 300 frames needs about /);
  });

  test("a validation without any video is an error, and so is one without labels", async () => {
    const resume = at("straight", "NEXTVLAD_epoch0");
    await writeShard(at("empty.tfrecord"), []);
    const unlabeled = Array.from({ length: 3 }, (_, i) => ({ ...learnableVideo(i), labels: new Int32Array(0) }));
    await writeShard(at("unlabeled.tfrecord"), unlabeled);
    for (const [shard, words] of [
      ["empty.tfrecord", /no video|empty/],
      ["unlabeled.tfrecord", /none of the 3 videos has a label/],
    ] as const) {
      const settings = [`VALID.filelist=${at(shard)}`, "TRAIN.epoch=1"];
      await rewriteState(resume, { ...(await readSnapshotState(resume)), validated_epoch: null });
      await assert.rejects(trainInProcess(config, at(`without-${shard}`), { resume, validInterval: { epochs: 1 }, settings }), words);
    }
  });
});
