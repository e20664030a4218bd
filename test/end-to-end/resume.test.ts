import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { checkSnapshot } from "../../src/checkpoints/snapshot.js";
import { eventFiles, readEvents, shownSteps } from "../helpers/events.js";
import { temporaryFolder } from "../helpers/files.js";
import { compiled, interruptNextvlad, runNextvlad, runProgram } from "../helpers/nextvlad.js";
import { needsPython } from "../helpers/python.js";
import { prepareRun } from "../helpers/runs.js";

/** Returns the files that are equal at the end of byte-identical runs. */
function endOf(saveDir: string, snapshot: string): Buffer[] {
  return ["weights.safetensors", "optimizer.safetensors", "state.json"].map((name) => readFileSync(join(saveDir, snapshot, name)));
}

async function trained(args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runNextvlad(["train", ...args]);
  assert.equal(exitCode, 0, stderr);
  return stdout + stderr;
}

/** Starts training and calls `act` with the process once its log contains `words`. */
const interrupted = (args: readonly string[], words: string, act: (child: ChildProcess) => void) =>
  interruptNextvlad(["train", ...args], words, act);

const snapshotsIn = (saveDir: string): string[] => readdirSync(saveDir).filter((name) => /^(NEXTVLAD_|best)/.test(name));

test("--save-interval adds snapshots between the ends of epochs; --keep keeps the newest and best; all resume to the same result", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder, { trainVideos: 200 });
  const run = (name: string): string[] => ["--config", config, "--save-dir", join(folder, name)];
  const printed = await trained([...run("two"), "--save-interval", "6", "--keep", "2"]);
  // 12 steps per epoch.
  const written = [...printed.matchAll(/INFO: snapshot: \S+NEXTVLAD_(\w+)/g)].map(([, name]) => name);
  assert.deepEqual(written, ["step6", "epoch0", "step18", "epoch1"]);
  assert.deepEqual(snapshotsIn(join(folder, "two")).sort(), ["NEXTVLAD_epoch1", "NEXTVLAD_step18", "best"]);
  await trained(run("none"));
  assert.deepEqual(endOf(join(folder, "two"), "NEXTVLAD_epoch1"), endOf(join(folder, "none"), "NEXTVLAD_epoch1"));
  await trained(["--resume", join(folder, "two", "NEXTVLAD_step18"), "--save-dir", join(folder, "resumed")]);
  for (const array of [0, 1]) {
    assert.deepEqual(endOf(join(folder, "resumed"), "NEXTVLAD_epoch1")[array], endOf(join(folder, "none"), "NEXTVLAD_epoch1")[array]);
  }
});

describe("a stopped run", { concurrency: 2 }, () => {
  test(
    "killed with kill -9, resumes with the same command to the same result and curves as an uninterrupted run",
    needsPython,
    async (t) => {
      const folder = temporaryFolder(t);
      const config = await prepareRun(folder, { trainVideos: 200 });
      const intervals = ["--save-interval", "4", "--log-interval", "1", "--histogram-interval", "6"];
      const run = (name: string): string[] => ["--config", config, "--save-dir", join(folder, name), ...intervals, "--resume"];
      const first = await trained(run("straight"));
      assert.match(first, /--resume finds no snapshot in .*straight: starting from the beginning/);
      const { signal } = await interrupted(run("killed"), "NEXTVLAD_step8", (child) => child.kill("SIGKILL"));
      assert.equal(signal, "SIGKILL");
      const printed = await trained(run("killed"));
      assert.match(printed, /the previous run in this directory did not end normally: process \d+ on /);
      assert.match(printed, /resuming from \S+NEXTVLAD_step\d+: epoch 0/);
      for (const name of ["NEXTVLAD_epoch1", "best"])
        assert.deepEqual(endOf(join(folder, "killed"), name), endOf(join(folder, "straight"), name));
      assert.equal(eventFiles(join(folder, "killed")).length, 2);
      const [shown, expected] = ["killed", "straight"].map((name) => shownSteps(readEvents(join(folder, name))));
      assert.deepEqual(shown, expected);
      assert.deepEqual(shown?.get("train/loss"), [...Array(24).keys()]);
      assert.deepEqual(shown?.get("parameters/hidden1_fc_weights"), [0, 6, 12, 18]);
      assert.deepEqual(
        readdirSync(join(folder, "killed")).filter((name) => name.startsWith(".")),
        [],
      );
    },
  );

  test("whose terminal is closed saves, and exits by the signal", async (t) => {
    if ((await runProgram("python3", ["-c", ""]).catch(() => null))?.exitCode !== 0) return t.skip("python3 is missing");
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder, { trainVideos: 1600 });
    const saveDir = join(folder, "run");
    const script = `
import os, pty, sys, time
pid, terminal = pty.fork()
if pid == 0: os.execv(sys.argv[1], sys.argv[1:])
while not os.path.exists(os.path.join(${JSON.stringify(saveDir)}, "NEXTVLAD_step3")):
    try: os.read(terminal, 4096)
    except OSError: break
os.close(terminal)
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status))`;
    const args = [compiled("nextvlad.cjs"), "train", "--config", config, "--save-dir", saveDir, "--epoch", "1000", "--save-interval", "3"];
    const { stdout } = await runProgram("python3", ["-c", script, process.execPath, ...args, "--log-interval", "1"]);
    // A shell reports SIGHUP, -1 here, as 129.
    assert.equal(stdout.trim(), "-1");
    assert.ok(snapshotsIn(saveDir).length > 1);
  });
});

test("SIGUSR1 saves immediately, and the run continues", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder, { trainVideos: 1200 });
  const saveDir = join(folder, "run");
  const args = ["--config", config, "--save-dir", saveDir, "--epoch", "1", "--valid-interval", "0", "--log-interval", "1"];
  const { exitCode, output } = await interrupted(args, "iter 5 ", (child) => child.kill("SIGUSR1"));
  assert.equal(exitCode, 0, output);
  assert.match(output, /SIGUSR1: saving, then continuing/);
  const [epoch, step] = snapshotsIn(saveDir).sort();
  assert.deepEqual([epoch, /^NEXTVLAD_step\d+$/.test(step ?? "")], ["NEXTVLAD_epoch0", true]);
  assert.equal((await checkSnapshot(join(saveDir, step as string))).epoch, 0);
});

test("many signals at once do not harm the run", async (t) => {
  const folder = temporaryFolder(t);
  const { exitCode: made } = await runNextvlad(["digits", "--out", folder, "--train-videos", "100", "--validate-videos", "1"]);
  assert.equal(made, 0);
  const saveDir = join(folder, "run");
  // Full-size features: for sums of that length, oneDNN's matrix product uses a heap buffer as its stack, below which a signal handler's frame overwrites other
  // memory.
  const MODEL = { num_classes: 10, cluster_size: 8, hidden_size: 32, groups: 8, gating_reduction: 8 };
  const TRAIN = { batch_size: 16, epoch: 100_000, filelist: join(folder, "train.list"), use_gpu: false };
  writeFileSync(join(folder, "config.yaml"), JSON.stringify({ MODEL, TRAIN }));
  const args = ["--config", join(folder, "config.yaml"), "--valid-interval", "0"];
  const { exitCode, output } = await interrupted([...args, "--save-dir", saveDir, "--keep", "2"], "iter 0 ", (child) => {
    let sent = 0;
    const timer = setInterval(() => {
      child.kill(sent < 300 ? "SIGUSR1" : "SIGTERM");
      if (++sent > 300) clearInterval(timer);
    }, 10);
  });
  assert.equal(exitCode, 143, output.slice(-2000));
  assert.match(output, /SIGUSR1: saving, then continuing/);
  for (const name of snapshotsIn(saveDir)) await checkSnapshot(join(saveDir, name));
});

describe("--resume without a path", () => {
  test("with --keep, a corrupt snapshot that it skips does not count as one to keep", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder);
    const saveDir = join(folder, "run");
    const args = ["--config", config, "--save-dir", saveDir, "--save-interval", "1", "--valid-interval", "0"];
    await trained([...args, "--set", "TRAIN.max_iter=5"]);
    rmSync(join(saveDir, "NEXTVLAD_step4"), { recursive: true });
    const file = join(saveDir, "NEXTVLAD_step5", "weights.safetensors");
    const bytes = readFileSync(file);
    bytes[bytes.length - 5] = (bytes[bytes.length - 5] as number) ^ 16;
    writeFileSync(file, bytes);
    await trained([...args, "--resume", "--keep", "1", "--set", "TRAIN.max_iter=4", "--epoch", "1"]);
    assert.deepEqual(snapshotsIn(saveDir).sort(), ["NEXTVLAD_step4", "NEXTVLAD_step5"]);
  });

  test("skips a corrupt snapshot with a warning; only corrupt snapshots, or none, are an error", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder);
    const saveDir = join(folder, "run");
    await trained(["--config", config, "--save-dir", saveDir]);
    const whole = endOf(saveDir, "NEXTVLAD_epoch1");
    const resume = ["train", "--save-dir", saveDir, "--resume"];
    const damage = (name: string): void => {
      const file = join(saveDir, name, "optimizer.safetensors");
      // best/ is a hard link to the same file, so a copy replaces it first.
      copyFileSync(file, `${file}2`);
      rmSync(file);
      const bytes = readFileSync(`${file}2`);
      rmSync(`${file}2`);
      bytes[bytes.length - 5] = (bytes[bytes.length - 5] as number) ^ 16;
      writeFileSync(file, bytes);
    };
    damage("NEXTVLAD_epoch1");
    rmSync(join(saveDir, "best"), { recursive: true });
    const explicit = await runNextvlad([...resume, join(saveDir, "NEXTVLAD_epoch1")]);
    assert.equal(explicit.exitCode, 1);
    assert.match(
      explicit.error,
      /optimizer\.safetensors: checksum mismatch: the file has changed since it was written \(expected \w{8}, found \w{8}\)\. Use another snapshot/,
    );
    const printed = await trained(resume.slice(1));
    assert.match(
      printed,
      /WARN: --resume skips the corrupt snapshot NEXTVLAD_epoch1: \S+optimizer\.safetensors: checksum mismatch: the file has changed since it was written/,
    );
    assert.match(printed, /resuming from \S+NEXTVLAD_epoch0: epoch 1, step 6/);
    assert.deepEqual(endOf(saveDir, "NEXTVLAD_epoch1").slice(0, 2), whole.slice(0, 2));
    for (const name of ["NEXTVLAD_epoch0", "NEXTVLAD_epoch1"]) damage(name);
    rmSync(join(saveDir, "best"), { recursive: true });
    const refused = await runNextvlad(resume);
    assert.equal(refused.exitCode, 1);
    assert.match(refused.error, /all snapshots are corrupt: .*NEXTVLAD_epoch1: .*NEXTVLAD_epoch0: /);
    const nowhere = await runNextvlad(["train", "--save-dir", join(folder, "nowhere"), "--resume"]);
    assert.equal(nowhere.exitCode, 1);
    assert.match(nowhere.error, /nowhere, --resume: no snapshot to resume from/);
    assert.equal(existsSync(join(folder, "nowhere")), false);
  });

  test("inside an epoch, another list of shards is rejected", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder);
    const saveDir = join(folder, "run");
    await trained(["--config", config, "--save-dir", saveDir, "--set", "TRAIN.max_iter=8"]);
    copyFileSync(join(folder, "train0.tfrecord"), join(folder, "train2.tfrecord"));
    writeFileSync(join(folder, "more.list"), "train0.tfrecord\ntrain1.tfrecord\ntrain2.tfrecord\n");
    const more = ["--set", `TRAIN.filelist=${join(folder, "more.list")}`, "--set", "TRAIN.max_iter=99"];
    const refused = await runNextvlad(["train", "--save-dir", saveDir, "--resume", ...more]);
    assert.equal(refused.exitCode, 2);
    assert.match(
      refused.error,
      /TRAIN\.filelist: resuming inside an epoch needs the same list of shards.*expected 2 shards.*found 3 shards/,
    );
    await trained(["--save-dir", join(folder, "other"), "--resume", join(saveDir, "NEXTVLAD_epoch0"), ...more]);
  });
});

test("a second run in the same save-dir is rejected, and the first continues", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder, { trainVideos: 1600 });
  const saveDir = join(folder, "run");
  const args = ["--config", config, "--save-dir", saveDir, "--epoch", "1000", "--valid-interval", "0", "--log-interval", "1"];
  let second: ReturnType<typeof runNextvlad> | undefined;
  const first = await interrupted(args, "iter 5 ", (child) => {
    second = runNextvlad(["train", ...args, "--overwrite"]);
    void second.then(() => child.kill("SIGTERM"));
  });
  const refused = await second;
  assert.deepEqual([refused?.exitCode, refused?.stdout], [1, ""]);
  assert.match(refused?.error ?? "", /\.nextvlad\.lock: another run is writing to this directory: process \d+ on /);
  assert.equal(first.exitCode, 143, first.output);
  assert.ok(first.output.includes(`resume with: nextvlad train ${args.join(" ")} --resume\n`), first.output);
});
