import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readSnapshotState } from "../../src/checkpoints/snapshot.js";
import { temporaryFolder } from "../helpers/files.js";
import { spawnNextvlad } from "../helpers/nextvlad.js";
import { prepareRun, readLog } from "../helpers/runs.js";
import { failsWith } from "../helpers/shards.js";
import { trainInProcess } from "../helpers/training.js";

/** All options of the recipe that are off by default. */
const SETTINGS = [
  "TRAIN.lr_schedule=cosine",
  "TRAIN.warmup_examples=40",
  "TRAIN.weight_decay=0.05",
  "TRAIN.label_smoothing=0.1",
  "TRAIN.mixup=0.5",
  "MODEL.hidden_drop_rate=0.3",
];

/** 100 videos in batches of 16: 6 steps per epoch. */
const STEPS = 12;

const expectedRate = (step: number): number => 0.01 * Math.cos((Math.PI * step) / 24) ** 2 * Math.min(1, ((step + 1) * 16) / 40);

test("a run with every option resumes within an epoch to the bytes of an uninterrupted one, and each option changes the result", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder);
  const at = (...names: string[]): string => join(folder, ...names);
  const endOf = (saveDir: string): Buffer[] =>
    ["weights", "optimizer"].map((name) => readFileSync(at(saveDir, "NEXTVLAD_epoch1", `${name}.safetensors`)));
  const { log } = await trainInProcess(config, at("straight"), { settings: SETTINGS, saveInterval: { steps: 8 } });
  assert.match(log, /100 videos per epoch: the cosine schedule has 12 steps/);
  assert.equal((await readSnapshotState(at("straight", "NEXTVLAD_step8"))).shards?.videos, 100);
  const resumed = await trainInProcess(config, at("resumed"), { settings: SETTINGS, resume: at("straight", "NEXTVLAD_step8") });
  assert.equal(resumed.outcome.steps, STEPS);
  assert.deepEqual(endOf("resumed"), endOf("straight"));
  const seen = new Set([endOf("straight")[0]?.toString("base64")]);
  for (const left of SETTINGS.keys()) {
    await trainInProcess(config, at(`${left}`), { settings: SETTINGS.filter((_, i) => i !== left) });
    seen.add(endOf(`${left}`)[0]?.toString("base64"));
  }
  assert.equal(seen.size, SETTINGS.length + 1);
});

test("a run that resumes with another limit counts the videos of the cosine again", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder);
  const settings = ["TRAIN.lr_schedule=cosine"];
  const limited = await trainInProcess(config, join(folder, "limited"), { settings, limitVideos: 32 });
  assert.match(limited.log, /32 videos per epoch: the cosine schedule has 4 steps/);
  const resume = join(folder, "limited", "NEXTVLAD_epoch0");
  const { log } = await trainInProcess(config, join(folder, "whole"), { settings, resume });
  assert.match(log, /100 videos per epoch: the cosine schedule has 12 steps/);
});

test("class balance repeats videos; a run resumes within an epoch to the same bytes, and cannot change it there", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder);
  const at = (...names: string[]): string => join(folder, ...names);
  const settings = ["TRAIN.class_balance=True", "TRAIN.lr_schedule=cosine"];
  const { log, outcome } = await trainInProcess(config, at("straight"), { settings, saveInterval: { steps: 4 } });
  const expected = Number(/class balance: about (\d+) videos per epoch, of 100/.exec(log)?.[1]);
  assert.ok(expected > 100, log);
  assert.match(log, new RegExp(`${expected} videos per epoch: the cosine schedule has ${2 * Math.floor(expected / 16)} steps`));
  const resume = at("straight", "NEXTVLAD_step4");
  const resumed = await trainInProcess(config, at("resumed"), { settings, resume });
  assert.equal(resumed.outcome.steps, outcome.steps);
  for (const name of ["weights.safetensors", "optimizer.safetensors"]) {
    const [one, other] = ["straight", "resumed"].map((saveDir) => readFileSync(at(saveDir, "NEXTVLAD_epoch1", name)));
    assert.deepEqual(one, other);
  }
  const unbalanced = ["TRAIN.lr_schedule=cosine"];
  await failsWith(trainInProcess(config, at("other"), { settings: unbalanced, resume }), "BAD_CONFIG");
  // Between epochs it can: the cosine then has the steps of the other epochs.
  const between = await trainInProcess(config, at("between"), { settings: unbalanced, resume: at("straight", "NEXTVLAD_epoch0") });
  assert.match(between.log, /100 videos per epoch: the cosine schedule has 12 steps/);
  assert.match(between.log, /the run continues with other settings than the snapshot's: TRAIN.class_balance = false \(was true\)\n/);
  assert.doesNotMatch(resumed.log, /other settings/);
});

test("a run that is stopped while it counts changes nothing in the save-dir", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder);
  const saveDir = join(folder, "run");
  await trainInProcess(config, saveDir);
  const before = readdirSync(saveDir);
  const options = { settings: ["TRAIN.class_balance=True", "TRAIN.lr_schedule=cosine"], signal: AbortSignal.abort() };
  const { outcome, log } = await trainInProcess(config, saveDir, { ...options, overwrite: true });
  const nothing = { stoppedEarly: null, best: null, validation: null };
  assert.deepEqual(outcome, { ...nothing, stopped: true, epochs: 0, steps: 0, lastSnapshot: null });
  assert.doesNotMatch(log, /videos per epoch/);
  assert.deepEqual(readdirSync(saveDir), before);
  const resume = join(saveDir, "NEXTVLAD_epoch0");
  const resumed = await trainInProcess(config, join(folder, "resumed"), { ...options, resume });
  assert.deepEqual(resumed.outcome, { ...nothing, stopped: true, epochs: 1, steps: STEPS / 2, lastSnapshot: resume });
});

test("several processes, and parts of a batch, have the losses and learning rates of one process", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder);
  const logged = async (name: string, ...flags: string[]): Promise<readonly (readonly [loss: number, rate: number])[]> => {
    const saveDir = join(folder, name);
    const settings = SETTINGS.flatMap((setting) => ["--set", setting]);
    const args = ["train", "--config", config, "--save-dir", saveDir, "--log-interval", "1", ...settings, ...flags];
    const { exitCode, stderr } = await spawnNextvlad(args);
    assert.equal(exitCode, 0, stderr);
    return readLog(saveDir).flatMap(({ tensors, loss, learning_rate: rate }) =>
      tensors === undefined ? [] : [[loss as number, rate as number] as const],
    );
  };
  const alone = await logged("alone");
  assert.equal(alone.length, STEPS);
  // Both formulas are exact but for rounding in float64.
  for (const [step, [, rate]] of alone.entries()) assert.ok(Math.abs(rate - expectedRate(step)) < 1e-15, `step ${step}: ${rate}`);
  for (const found of [await logged("two", "--devices", "2", "--threads", "1"), await logged("parts", "--accumulate", "2")]) {
    assert.deepEqual(
      found.map(([, rate]) => rate),
      alone.map(([, rate]) => rate),
    );
    // The bound for the same computation in another order of sums.
    for (const [step, [loss]] of found.slice(0, 5).entries()) {
      const expected = alone[step]?.[0] as number;
      assert.ok(Math.abs(loss / expected - 1) < 1e-5, `step ${step}: ${loss}, one process ${expected}`);
    }
  }
});
