import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { createTelemetry } from "../../src/telemetry/telemetry.js";
import { LossWatch, NAN_BATCHES_NAME } from "../../src/training/loss-watch.js";
import { temporaryFolder } from "../helpers/files.js";
import { runNextvlad } from "../helpers/nextvlad.js";
import { prepareRun } from "../helpers/runs.js";
import { failsWith } from "../helpers/shards.js";
import { Capture } from "../helpers/terminal.js";

interface Listed {
  readonly step: number;
  readonly epoch: number;
  readonly step_in_epoch: number;
  readonly loss: string | null;
  readonly videos: readonly string[];
}

const listIn = (saveDir: string) => JSON.parse(readFileSync(join(saveDir, NAN_BATCHES_NAME), "utf8")) as Listed[];
const position = (step: number) => ({ step, epoch: 0, step_in_epoch: step });

describe("--on-nan", { concurrency: 2 }, () => {
  test("stop: the run ends at the next log line, keeps its valid snapshot and lists the batches since the last finite loss", async (t) => {
    const directory = temporaryFolder(t);
    const config = await prepareRun(directory);
    const saveDir = join(directory, "run");
    // 6 steps per epoch, and the loss is checked every third step.
    const args = ["--save-dir", saveDir, "--log-interval", "3", "--valid-interval", "0", "--epoch", "3"];
    assert.equal((await runNextvlad(["train", "--config", config, ...args, "--set", "TRAIN.max_iter=6"])).exitCode, 0);
    const good = readFileSync(join(saveDir, "NEXTVLAD_epoch0", "weights.safetensors"));
    const resume = ["train", ...args, "--resume", "--set", "TRAIN.max_iter=99"];
    const ended = await runNextvlad([...resume, "--learning-rate", "1e30", "--save-interval", "2"]);
    assert.equal(ended.exitCode, 1, ended.stderr);
    assert.match(ended.error, /^(the loss of step 9 \(epoch 1\) is (NaN|Infinity)|after 8 steps the weights contain NaN or Inf)\. /);
    assert.match(
      ended.error,
      /Resume from the last valid snapshot \(--resume \S+NEXTVLAD_epoch0\) with a lower --learning-rate .*nan_batches\.json\.$/,
    );
    assert.deepEqual(
      readdirSync(saveDir).filter((name) => name.startsWith("NEXTVLAD_")),
      ["NEXTVLAD_epoch0"],
    );
    assert.deepEqual(readFileSync(join(saveDir, "NEXTVLAD_epoch0", "weights.safetensors")), good);
    const listed = listIn(saveDir);
    assert.deepEqual(
      listed.slice(0, 1).map(({ step, epoch, step_in_epoch, loss }) => [step, epoch, step_in_epoch, loss]),
      [[7, 1, 1, null]],
    );
    assert.ok(listed.every(({ videos }) => videos.length === 16 && videos.every((id) => /^video\d+$/.test(id))));
    // With a lower learning rate, the run resumes from the good snapshot and keeps the list; another run removes the list.
    assert.equal((await runNextvlad([...resume, "--learning-rate", "0.01"])).exitCode, 0);
    assert.equal(listIn(saveDir).length, listed.length);
    assert.equal((await runNextvlad(["train", "--config", config, ...args, "--overwrite"])).exitCode, 0);
    assert.equal(existsSync(join(saveDir, NAN_BATCHES_NAME)), false);
  });

  test("stop without log lines: saving the snapshot detects the non-finite loss", async (t) => {
    const directory = temporaryFolder(t);
    const config = await prepareRun(directory);
    const saveDir = join(directory, "run");
    const ended = await runNextvlad(["train", "--config", config, "--save-dir", saveDir, "--log-interval", "0", "--learning-rate", "1e30"]);
    assert.equal(ended.exitCode, 1);
    assert.match(ended.error, /NaN or Inf.* Start again with a lower --learning-rate .*nan_batches\.json\.$/);
    assert.deepEqual(
      listIn(saveDir).map(({ step }) => step),
      [0, 1, 2, 3, 4, 5],
    );
    assert.equal(
      readdirSync(saveDir).some((name) => name.startsWith("NEXTVLAD_")),
      false,
    );
  });

  test("skip-batch: batches are skipped, listed and counted as steps; ten in a row end the run", async (t) => {
    const directory = temporaryFolder(t);
    const config = await prepareRun(directory, { trainVideos: 300 });
    const saveDir = join(directory, "run");
    const args = ["train", "--config", config, "--save-dir", saveDir, "--on-nan", "skip-batch"];
    const ended = await runNextvlad([...args, "--learning-rate", "1e30"]);
    assert.equal(ended.exitCode, 1, ended.stderr);
    assert.match(ended.stderr, /WARN: skipped a batch: the loss of step \d \(epoch 0\) is (NaN|Infinity|-Infinity)/);
    assert.match(ended.error, /^the loss of step \d+ \(epoch 0\) is .*, as in the 9 steps before: the weights have diverged/);
    const listed = listIn(saveDir);
    const first = listed[0]?.step as number;
    assert.deepEqual(
      listed.map(({ step }) => step),
      Array.from({ length: 10 }, (_, i) => first + i),
    );
    assert.ok(listed.every(({ loss }) => loss !== null));
    // If all losses are finite, runs with and without the policy are identical byte for byte.
    const straight = join(directory, "straight");
    assert.equal((await runNextvlad([...args, "--overwrite"])).exitCode, 0);
    assert.equal((await runNextvlad(["train", "--config", config, "--save-dir", straight])).exitCode, 0);
    for (const name of ["weights", "optimizer"]) {
      const [one, other] = [saveDir, straight].map((dir) => readFileSync(join(dir, "NEXTVLAD_epoch1", `${name}.safetensors`)));
      assert.deepEqual(one, other);
    }
    assert.equal(existsSync(join(saveDir, NAN_BATCHES_NAME)), false);
  });
});

describe("LossWatch", () => {
  const quiet = async () => (await createTelemetry({ logFile: null, stderr: new Capture(false).stream })).log;

  test("lists the batches since the last finite loss, at most the newest 1,000", async (t) => {
    const directory = temporaryFolder(t);
    const watch = new LossWatch("stop", directory, await quiet());
    await watch.start(false);
    assert.equal(watch.acceptor(["a"], position(0)), undefined);
    watch.record(["a"], position(0), null);
    watch.record(["b"], position(1), 4.5);
    for (let step = 2; step < 1200; step++) watch.record([`v${step}`], position(step), null);
    const thrown = failsWith(
      Promise.resolve().then(() => watch.record(["last"], position(1200), Number.NaN)),
      "NOT_FINITE",
    );
    const explained = await watch.explain(await thrown, null);
    assert.match(explained.message, /^the loss of step 1200 \(epoch 0\) is NaN\. Start again with a lower --learning-rate/);
    const listed = listIn(directory);
    assert.deepEqual([listed.length, listed[0]?.step, listed.at(-1)?.loss], [1000, 201, "NaN"]);
  });

  test("with skip-batch, a finite loss resets the count of consecutive skips", async (t) => {
    const directory = temporaryFolder(t);
    const watch = new LossWatch("skip-batch", directory, await quiet());
    const losses = [...Array(9).fill(Number.NaN), 1, ...Array(9).fill(Number.POSITIVE_INFINITY), 2];
    const accepted = losses.map((loss, step) => watch.acceptor([`v${step}`], position(step))?.(loss));
    assert.deepEqual(accepted, losses.map(Number.isFinite));
    await watch.flush();
    assert.equal(listIn(directory).length, 18);
    writeFileSync(join(directory, NAN_BATCHES_NAME), "");
    watch.record(["a"], position(20), Number.NaN);
  });
});
