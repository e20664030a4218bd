import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { encodeState } from "../../src/checkpoints/snapshot-writer.js";
import { temporaryFolder } from "../helpers/files.js";
import { compiled, runNextvlad, runProgram } from "../helpers/nextvlad.js";
import { CLASSES, prepareRun, readLog } from "../helpers/runs.js";

/** Returns the bytes of a snapshot's arrays. */
function arraysOf(saveDir: string, snapshot: string): Buffer[] {
  return ["weights.safetensors", "optimizer.safetensors"].map((name) => readFileSync(join(saveDir, snapshot, name)));
}

async function trained(args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runNextvlad(["train", ...args]);
  assert.equal(exitCode, 0, stderr);
  return stdout + stderr;
}

test("trains, evaluates and infers; a snapshot needs no config", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder, { trainVideos: 200 });
  const saveDir = join(folder, "run");
  await trained(["--config", config, "--save-dir", saveDir, "--epoch", "6", "--log-interval", "1"]);
  assert.deepEqual(
    readdirSync(saveDir)
      .filter((name) => !/^(train\.log\.jsonl$|events\.out\.tfevents\.)/.test(name))
      .sort(),
    [
      "NEXTVLAD_epoch0",
      "NEXTVLAD_epoch1",
      "NEXTVLAD_epoch2",
      "NEXTVLAD_epoch3",
      "NEXTVLAD_epoch4",
      "NEXTVLAD_epoch5",
      "best",
      "config.yaml",
    ],
  );
  const steps = readLog(saveDir).filter(({ tensors }) => tensors !== undefined);
  assert.equal(steps.length, 6 * 12);
  assert.equal(new Set(steps.map(({ tensors }) => tensors)).size, 1, "the tensor count is constant from step to step");
  const losses = steps.map(({ loss }) => loss as number);
  assert.ok((losses.at(-1) as number) < 0.5 * (losses[0] as number), "the loss falls");

  const evaluated = await runNextvlad(["eval", "--weights", join(saveDir, "best"), "--save-dir", join(folder, "eval")]);
  assert.equal(evaluated.exitCode, 0, evaluated.stderr);
  assert.match(
    evaluated.stdout,
    /^\[EVAL\] eval finished\. \tavg_hit_at_one: \d\.\d{4},\tavg_perr: \d\.\d{4},\tavg_loss :\d+\.\d{4},\tgap:\d\.\d{4}\n/,
  );
  const result = JSON.parse(readFileSync(join(folder, "eval", "NEXTVLAD_eval_result.json"), "utf8"));
  assert.equal(result.videos, 40);
  assert.equal(result.aps.length, CLASSES);
  const validations = readLog(saveDir).filter(({ msg }) => String(msg).startsWith("[VALID]"));
  const best = Math.max(...validations.map(({ gap }) => gap as number));
  assert.ok(Math.abs(result.gap - best) < 1e-6, "best/ is the best validation, and eval finds its GAP again");

  const inferred = await runNextvlad([
    "infer",
    "--weights",
    join(saveDir, "best"),
    "--save-dir",
    join(folder, "infer"),
    "--infer-topk",
    "4",
  ]);
  assert.equal(inferred.exitCode, 0, inferred.stderr);
  const script = "import pickle,sys,json; print(json.dumps(pickle.load(open(sys.argv[1],'rb'))))";
  const read = await runProgram("python3", ["-c", script, join(folder, "infer", "NEXTVLAD_infer_result.pkl")]);
  const rows = JSON.parse(read.stdout) as [string, number[], number[]][];
  assert.deepEqual(
    rows.map(([id]) => id),
    Array.from({ length: 40 }, (_, i) => `video${200 + i}`),
  );
  for (const [, probabilities, classes] of rows) {
    assert.equal(classes.length, 4);
    assert.deepEqual(
      probabilities,
      [...probabilities].sort((a, b) => b - a),
    );
  }
});

test("two epochs in one run, and one epoch plus a resumed one, give the same bytes", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder);
  const [straight, parts] = [join(folder, "straight"), join(folder, "parts")];
  await trained(["--config", config, "--save-dir", straight]);
  await trained(["--config", config, "--save-dir", parts, "--epoch", "1"]);
  await trained(["--config", config, "--save-dir", parts, "--resume", join(parts, "NEXTVLAD_epoch0"), "--set", "TRAIN.num_readers=1"]);
  assert.deepEqual(arraysOf(parts, "NEXTVLAD_epoch1"), arraysOf(straight, "NEXTVLAD_epoch1"));
});

test("--accumulate changes the losses of a run by rounding only; a run with it resumes exactly, and with another number after a warning", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder);
  const lossesOf = async (name: string, ...flags: string[]): Promise<readonly number[]> => {
    const saveDir = join(folder, name);
    await trained(["--config", config, "--save-dir", saveDir, "--log-interval", "1", ...flags]);
    return readLog(saveDir).flatMap(({ tensors, loss }) => (tensors === undefined ? [] : [loss as number]));
  };
  const atOnce = await lossesOf("once");
  const inParts = await lossesOf("parts", "--accumulate", "3");
  assert.equal(inParts.length, 2 * 6);
  // The bound for the first five steps; float32 rounding grows from step to step.
  for (const [step, loss] of inParts.slice(0, 5).entries())
    assert.ok(Math.abs(loss / (atOnce[step] as number) - 1) < 1e-5, `step ${step}: ${loss}, at once ${atOnce[step]}`);
  await lossesOf("resumed", "--accumulate", "3", "--epoch", "1");
  await lossesOf("resumed", "--accumulate", "3", "--resume");
  assert.deepEqual(arraysOf(join(folder, "resumed"), "NEXTVLAD_epoch1"), arraysOf(join(folder, "parts"), "NEXTVLAD_epoch1"));
  const warnings = (): readonly string[] =>
    readLog(join(folder, "resumed")).flatMap(({ msg }) => /.*last digits.*/.exec(String(msg)) ?? []);
  assert.deepEqual(warnings(), []);
  await lossesOf("resumed", "--epoch", "3", "--resume");
  assert.equal(warnings().length, 1);
  assert.match(warnings()[0] ?? "", /, 3 parts\), and this run .*: the last digits will differ; to restore them, use --accumulate 3$/);

  const tooMany = await runNextvlad(["train", "--config", config, "--save-dir", join(folder, "none"), "--accumulate", "17"]);
  assert.equal(tooMany.exitCode, 2);
  assert.match(tooMany.error, /--accumulate: invalid value \(expected at most batch_size = 16, found "17"\)/);
});

test("SIGTERM finishes the step, saves and exits with 143; the resumed run gives the same result as an uninterrupted one", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder, { trainVideos: 1200 });
  const [straight, stopped] = [join(folder, "straight"), join(folder, "stopped")];
  const epochs = ["--epoch", "1", "--valid-interval", "0"];
  await trained(["--config", config, "--save-dir", straight, ...epochs]);
  const args = ["train", "--config", config, "--save-dir", stopped, "--log-interval", "1", ...epochs];
  const child = spawn(process.execPath, [compiled("nextvlad.cjs"), ...args]);
  let sent = false;
  child.stderr.on("data", (chunk: Buffer) => {
    if (sent || !chunk.toString().includes("iter 5 ")) return;
    sent = true;
    child.kill("SIGTERM");
  });
  const [exitCode] = await once(child, "close");
  assert.equal(exitCode, 143);
  const snapshot = readdirSync(stopped).find((name) => name.startsWith("NEXTVLAD_step"));
  assert.ok(snapshot !== undefined, "a snapshot of the step is there");
  await trained(["--resume", join(stopped, snapshot), "--save-dir", stopped]);
  assert.deepEqual(arraysOf(stopped, "NEXTVLAD_epoch0"), arraysOf(straight, "NEXTVLAD_epoch0"));
});

test("snapshots are overwritten only with --overwrite", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder);
  const saveDir = join(folder, "run");
  await trained(["--config", config, "--save-dir", saveDir]);
  const before = arraysOf(saveDir, "NEXTVLAD_epoch1");
  const again = await runNextvlad(["train", "--config", config, "--save-dir", saveDir]);
  assert.equal(again.exitCode, 1);
  assert.match(again.error, /the save-dir contains snapshots of another run: NEXTVLAD_epoch0, NEXTVLAD_epoch1, best/);
  const earlier = await runNextvlad(["train", "--resume", join(saveDir, "NEXTVLAD_epoch0"), "--save-dir", saveDir]);
  assert.equal(earlier.exitCode, 1);
  assert.match(earlier.error, /the save-dir contains snapshots later than the one to resume from: NEXTVLAD_epoch1/);
  assert.deepEqual(arraysOf(saveDir, "NEXTVLAD_epoch1"), before);
  await trained(["--config", config, "--save-dir", saveDir, "--epoch", "1", "--overwrite"]);
  assert.equal(existsSync(join(saveDir, "NEXTVLAD_epoch1")), false);
});

test("--pretrain loads the arrays that match and lists the others; --resume requires all", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder);
  const [first, second] = [join(folder, "first"), join(folder, "second")];
  await trained(["--config", config, "--save-dir", first, "--epoch", "1"]);
  const other = ["--config", config, "--save-dir", second, "--epoch", "1", "--set", "MODEL.num_classes=12"];
  const printed = await trained([...other, "--pretrain", join(first, "best")]);
  const mismatches = "logits_clf_weights is [16, 6], expected [16, 12]; logits_clf_bias is [6], expected [12]";
  assert.ok(printed.includes(`initialized 2 arrays: ${mismatches}\n`), printed);
  const resumed = await runNextvlad([
    "train",
    ...other.slice(0, 2),
    "--save-dir",
    join(folder, "third"),
    "--set",
    "MODEL.num_classes=12",
    "--resume",
    join(first, "best"),
  ]);
  assert.equal(resumed.exitCode, 1);
  assert.match(resumed.error, /2 arrays do not match the model: logits_clf_weights is \[16, 6\], expected \[16, 12\]; logits_clf_bias/);
});

test("--overwrite removes nothing if the run cannot start", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder);
  const saveDir = join(folder, "run");
  await trained(["--config", config, "--save-dir", saveDir, "--epoch", "1"]);
  const before = arraysOf(saveDir, "best");
  const failed = await runNextvlad([
    "train",
    "--config",
    config,
    "--save-dir",
    saveDir,
    "--overwrite",
    "--set",
    "TRAIN.filelist=typo.list",
  ]);
  assert.equal(failed.exitCode, 1);
  assert.deepEqual(arraysOf(saveDir, "best"), before);
  // A run may start from the weights that it overwrites.
  await trained(["--config", config, "--save-dir", saveDir, "--overwrite", "--epoch", "1", "--pretrain", join(saveDir, "best")]);
  assert.notDeepEqual(arraysOf(saveDir, "best"), before);
});

test("a resumed run keeps its seed and, inside an epoch, its batches", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder);
  const saveDir = join(folder, "run");
  await trained(["--config", config, "--save-dir", saveDir, "--set", "TRAIN.max_iter=2"]);
  const resume = ["train", "--resume", join(saveDir, "NEXTVLAD_step2"), "--save-dir", saveDir];
  const cases: [string[], RegExp][] = [
    [["--batch-size", "8"], /TRAIN\.batch_size: a resumed run cannot change this setting \(expected 16, found 8\)/],
    [["--fix-random-seed", "7"], /TRAIN\.seed: a resumed run cannot change this setting \(expected 0, found 7\)/],
  ];
  for (const [flags, message] of cases) {
    const refused = await runNextvlad([...resume, ...flags]);
    assert.equal(refused.exitCode, 2);
    assert.match(refused.error, message);
  }
  const refused = await runNextvlad(["train", "--config", config, "--resume", "--save-dir", saveDir, "--set", "TRAIN.seed=7"]);
  assert.match(refused.error, /TRAIN\.seed: a resumed run cannot change this setting \(expected 0, found 7\)/);
  // PaddleVideo's users pass the flags of the first run again; False draws a seed only for a new run.
  await trained(["--config", config, "--resume", "--save-dir", saveDir, "--fix-random-seed", "False", "--set", "TRAIN.max_iter=3"]);
});

test("a run with a seed from the clock is resumed with its config, which has no seed", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder);
  const saveDir = join(folder, "run");
  const seedIn = (snapshot: string): number => JSON.parse(readFileSync(join(saveDir, snapshot, "state.json"), "utf8")).seed;
  const command = ["--config", config, "--save-dir", saveDir];
  await trained([...command, "--fix-random-seed", "False", "--set", "TRAIN.max_iter=2"]);
  await trained([...command, "--resume", "--set", "TRAIN.max_iter=3"]);
  assert.equal(seedIn("NEXTVLAD_step3"), seedIn("NEXTVLAD_step2"));
  assert.notEqual(seedIn("NEXTVLAD_step3"), 0);
});

test("a run stopped before a validation validates when resumed; best of another save-dir does not count", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder);
  const [saveDir, other] = [join(folder, "run"), join(folder, "other")];
  await trained(["--config", config, "--save-dir", saveDir, "--epoch", "1"]);
  const best = readFileSync(join(saveDir, "best", "state.json"), "utf8");
  const state = JSON.parse(readFileSync(join(saveDir, "NEXTVLAD_epoch0", "state.json"), "utf8"));
  assert.equal(state.validated_epoch, 0);
  const before = encodeState({ ...state, validated_epoch: null, best: null }, state.written_by, state.files);
  writeFileSync(join(saveDir, "NEXTVLAD_epoch0", "state.json"), before);
  rmSync(join(saveDir, "best"), { recursive: true });
  const resume = ["--resume", join(saveDir, "NEXTVLAD_epoch0"), "--epoch", "1"];
  await trained([...resume, "--save-dir", saveDir]);
  assert.equal(readFileSync(join(saveDir, "best", "state.json"), "utf8"), best);
  const printed = await trained([...resume.slice(0, 2), "--epoch", "2", "--save-dir", other]);
  assert.match(printed, /best snapshot: .*other\/best \(epoch 1,/);
});

test("NaN and Inf weights are never saved", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder);
  const saveDir = join(folder, "run");
  const diverged = await runNextvlad([
    "train",
    "--config",
    config,
    "--save-dir",
    saveDir,
    "--learning-rate",
    "1e30",
    "--log-interval",
    "0",
  ]);
  assert.equal(diverged.exitCode, 1);
  assert.match(diverged.error, /after 6 steps the weights contain NaN or Inf\. Start again with a lower --learning-rate/);
  assert.equal(existsSync(join(saveDir, "NEXTVLAD_epoch0")), false);
});
