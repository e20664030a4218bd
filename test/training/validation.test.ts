import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { checkSnapshot, readSnapshotState, rewriteState } from "../../src/checkpoints/snapshot.js";
import { afterValidation, describeEarlyStop, stopsEarly } from "../../src/training/early-stopping.js";
import { runNextvlad } from "../helpers/nextvlad.js";
import { prepareRun, readLog } from "../helpers/runs.js";
import { captureTelemetry, trainInProcess } from "../helpers/training.js";

const FILES = ["config.yaml", "optimizer.safetensors", "state.json", "weights.safetensors"];
const STATE = { step: 1, epoch: 0, step_in_epoch: 1, seed: 0, best: null, validated_epoch: null, shards: null };

test("early stopping counts validations since the highest value, and starts again with another metric", () => {
  const watched = [0.5, 0.6, 0.6, 0.55, 0.7].map((value) => ({ metric: "gap", value }) as const);
  const since: number[] = [];
  let state: ReturnType<typeof afterValidation> | undefined;
  for (const each of watched) {
    state = afterValidation(state, each);
    since.push(state.since);
  }
  assert.deepEqual(since, [0, 0, 1, 2, 0]);
  const stopped = { ...STATE, early_stopping: { metric: "gap", best: 0.6, since: 2 } } as const;
  assert.deepEqual(
    [1, 2, 3, null].map((patience) => stopsEarly(patience, stopped)),
    [true, true, false, false],
  );
  assert.equal(describeEarlyStop(2, stopped), "the last 2 validations have not raised the GAP above 0.6000 (--early-stop 2)");
  assert.deepEqual([describeEarlyStop(3, stopped), describeEarlyStop(1, STATE)], [null, null]);
  assert.deepEqual(afterValidation(state, { metric: "map", value: 0.1 }), { metric: "map", best: 0.1, since: 0 });
});

describe("validation every N steps", () => {
  let directory: string;
  let config: string;
  const at = (...names: string[]): string => join(directory, ...names);
  const snapshotsIn = (saveDir: string): string[] => readdirSync(at(saveDir)).filter((name) => /^(NEXTVLAD_|best)/.test(name));
  const linesOf = (log: string): string[] => [...log.matchAll(/\[VALID\] (Epoch \d+(?:, step \d+)?)/g)].map(([, place]) => place as string);
  const bytesOf = (saveDir: string, snapshot: string): Buffer =>
    Buffer.concat(FILES.map((name) => readFileSync(at(saveDir, snapshot, name))));

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), "validation-"));
    config = await prepareRun(directory);
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  test("validates inside epochs and at their ends, each time with a snapshot, and does not change the weights", async () => {
    // 6 steps per epoch, of 2.
    const { log, outcome } = await trainInProcess(config, at("straight"), { validInterval: { steps: 4 } });
    assert.deepEqual(linesOf(log), ["Epoch 0, step 4", "Epoch 1, step 8", "Epoch 1, step 12"]);
    assert.doesNotMatch(log, /WARN/);
    assert.deepEqual(snapshotsIn("straight").sort(), ["NEXTVLAD_epoch0", "NEXTVLAD_epoch1", "NEXTVLAD_step4", "NEXTVLAD_step8", "best"]);
    const states = await Promise.all(["step4", "step8", "epoch1"].map((name) => checkSnapshot(at("straight", `NEXTVLAD_${name}`))));
    assert.deepEqual(
      states.map(({ validated_step, validated_epoch }) => [validated_step, validated_epoch]),
      [
        [4, null],
        [8, null],
        [12, null],
      ],
    );
    // The model learns, so the last validation is the best.
    assert.deepEqual([outcome.best?.epoch, outcome.best?.step], [1, 12]);
    assert.equal(outcome.best?.gap, (await checkSnapshot(at("straight", "best"))).best?.gap);
    await trainInProcess(config, at("plain"), {});
    const [ours, theirs] = ["straight", "plain"].map((name) => readFileSync(at(name, "NEXTVLAD_epoch1", "weights.safetensors")));
    assert.ok(ours?.equals(theirs as Buffer));
  });

  test("a run that is stopped in a validation repeats it when it is resumed, and writes the same bytes", async () => {
    const stopping = new AbortController();
    const { telemetry } = await captureTelemetry();
    let validations = 0;
    const start = (title: string): void => {
      if (title === "validation" && ++validations === 2) stopping.abort();
    };
    const progress = { start, update: () => undefined, end: () => undefined };
    const options = { validInterval: { steps: 4 } } as const;
    const { outcome } = await trainInProcess(config, at("parts"), {
      ...options,
      telemetry: { ...telemetry, progress },
      signal: stopping.signal,
    });
    assert.deepEqual([outcome.stopped, outcome.steps, outcome.lastSnapshot], [true, 8, at("parts", "NEXTVLAD_step8")]);
    assert.equal((await readSnapshotState(at("parts", "NEXTVLAD_step8"))).validated_step, 4);
    const { log } = await trainInProcess(config, at("parts"), { ...options, resume: at("parts", "NEXTVLAD_step8") });
    assert.deepEqual(linesOf(log), ["Epoch 1, step 8", "Epoch 1, step 12"]);
    for (const name of snapshotsIn("straight")) assert.ok(bytesOf("parts", name).equals(bytesOf("straight", name)), name);
  });

  test("a run that the last of its validations would stop is complete, not stopped early", async () => {
    await trainInProcess(config, at("complete"), { settings: ["TRAIN.max_iter=6"] });
    const resume = at("complete", "NEXTVLAD_epoch0");
    // No validation exceeds a GAP of 1.
    const early_stopping = { metric: "gap", best: 1, since: 0 } as const;
    await rewriteState(resume, { ...(await readSnapshotState(resume)), validated_epoch: 0, early_stopping });
    const { outcome } = await trainInProcess(config, at("complete"), { resume, validInterval: { epochs: 1 }, earlyStop: 1 });
    assert.deepEqual([outcome.epochs, outcome.stoppedEarly], [2, null]);
    assert.equal((await readSnapshotState(at("complete", "NEXTVLAD_epoch1"))).early_stopping?.since, 1);
  });

  test("with the full ranking, the mAP decides which snapshot is the best", async () => {
    const { outcome } = await trainInProcess(config, at("ranked"), {
      validInterval: { steps: 3 },
      fullRanking: true,
      settings: ["TRAIN.epoch=1"],
    });
    const maps = await Promise.all(
      ["step3", "epoch0"].map(async (name) => (await readSnapshotState(at("ranked", `NEXTVLAD_${name}`))).best?.map as number),
    );
    assert.equal(outcome.best?.map, Math.max(...maps));
  });
});

describe("train --early-stop", () => {
  let directory: string;
  let config: string;
  const flags = ["--valid-interval", "2steps", "--epoch", "20", "--learning-rate", "0.1"];
  const at = (...names: string[]): string => join(directory, ...names);

  async function train(saveDir: string, ...more: string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await runNextvlad(["train", "--config", config, "--save-dir", at(saveDir), ...flags, ...more]);
    assert.equal(exitCode, 0, stderr);
    return stdout;
  }

  before(async () => {
    directory = mkdtempSync(join(tmpdir(), "early-stop-"));
    config = await prepareRun(directory);
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  test("ends the run with exit code 0, the reason and the best snapshot; a resumed run counts on, and stops at the same step", async () => {
    const printed = await train("straight", "--early-stop", "2");
    const gaps = readLog(at("straight")).flatMap(({ msg, gap }) => (String(msg).startsWith("[VALID]") ? [gap as number] : []));
    // The rule, independently: the first validation at which the highest of all is at least two back.
    const stop = gaps.findIndex((_, i) => i - gaps.indexOf(Math.max(...gaps.slice(0, i + 1))) >= 2);
    assert.equal(stop, gaps.length - 1);
    const best = gaps.indexOf(Math.max(...gaps));
    assert.match(printed, new RegExp(`steps: ${2 * gaps.length}\\n`));
    assert.match(
      printed,
      new RegExp(`stopped early: the last 2 validations have not raised the GAP above ${gaps[best]?.toFixed(4)} \\(--early-stop 2\\)\n`),
    );
    assert.match(
      printed,
      new RegExp(`best snapshot: .*/best \\(epoch \\d+, step ${2 * (best + 1)}, validation GAP ${gaps[best]?.toFixed(4)}\\)`),
    );
    // Ends at once: it has stopped already.
    assert.match(await train("straight", "--early-stop", "2", "--resume"), /stopped early: the last 2 validations/);
    // Stopped after one of the validations without a higher value.
    await train("parts", "--early-stop", "2", "--set", `TRAIN.max_iter=${2 * gaps.length - 1}`);
    await train("parts", "--early-stop", "2", "--resume");
    const names = readdirSync(at("straight")).filter((name) => name.startsWith("NEXTVLAD_"));
    const last = names.find((name) => name === `NEXTVLAD_step${2 * gaps.length}`) ?? (names.sort().at(-1) as string);
    for (const name of FILES) {
      const [ours, theirs] = ["parts", "straight"].map((run) => readFileSync(at(run, last, name)));
      assert.ok(ours?.equals(theirs as Buffer), name);
    }
  });

  test("without validations, it is an error", async () => {
    const args = ["train", "--config", config, "--save-dir", at("none"), "--early-stop", "2", "--valid-interval", "0"];
    const { exitCode, error } = await runNextvlad(args);
    assert.equal(exitCode, 2);
    assert.match(error, /--early-stop: early stopping needs validations\. Omit --early-stop, or --valid-interval 0/);
    assert.ok(!existsSync(at("none")));
    assert.match(
      (await runNextvlad([...args.slice(0, -1), "0steps"])).error,
      /a number of epochs, such as 1, or of steps, such as 500steps/,
    );
  });
});
