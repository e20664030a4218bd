import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryFolder } from "../helpers/files.js";
import { interruptNextvlad, spawnNextvlad } from "../helpers/nextvlad.js";
import { prepareRun } from "../helpers/runs.js";

// These runs need their own processes, because a process loads TensorFlow once.

const stateOf = (...folders: string[]) =>
  JSON.parse(readFileSync(join(...folders, "state.json"), "utf8")) as {
    readonly threads?: number;
    readonly level?: string;
    readonly written_by?: { readonly threads: number; readonly level: string };
  };

test("--threads sets the threads of TensorFlow and of our kernels", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder, { trainVideos: 1600 });
  /** Returns the number of threads of a process that trains with --threads `count`. */
  const countThreads = async (count: number): Promise<number> => {
    let found = 0;
    const act = (child: ChildProcess): void => {
      found = readdirSync(`/proc/${child.pid}/task`).length;
      child.kill("SIGTERM");
    };
    const args = ["train", "--config", config, "--save-dir", join(folder, `${count}`), "--set", "TRAIN.num_readers=2"];
    // TensorFlow's own variables, which are ignored.
    const env = { ...process.env, TF_NUM_INTRAOP_THREADS: "2", TF_NUM_INTEROP_THREADS: "2" };
    const flags = ["--log-interval", "1", "--threads", String(count)];
    const { output } = await interruptNextvlad([...args, ...flags], "iter 2 ", act, env);
    assert.ok(found > 0, output);
    assert.match(output, /WARN: ignored the environment variable TF_NUM_INTEROP_THREADS: TensorFlow uses \d threads?, found 2;/);
    return found;
  };
  const [one, four] = [await countThreads(1), await countThreads(4)];
  // TensorFlow has two pools: within an operation, and for operations.
  assert.equal(four - one, 3 * 3);
});

test("a snapshot records the level and the number of threads; resuming with others warns, with the flag that restores them", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder);
  const train = async (...args: string[]): Promise<string> => {
    const base = ["train", "--config", config, "--save-dir", join(folder, "run"), "--valid-interval", "0"];
    const { exitCode, stderr } = await spawnNextvlad([...base, ...args]);
    assert.equal(exitCode, 0, stderr);
    return stderr;
  };
  const cpuCount = cpus().length;
  const threads = cpuCount + 1;
  const first = await train("--epoch", "1", "--threads", String(threads));
  assert.match(first, new RegExp(`computing on the CPU .*, ${threads} threads on ${cpuCount} CPUs? \\(--threads\\), TensorFlow`));
  const { level, ...written } = stateOf(folder, "run", "NEXTVLAD_epoch0").written_by as { level: string; threads: number };
  assert.equal(written.threads, threads);
  assert.match(first, new RegExp(`computing on the CPU at level ${level} `));
  const same = await train("--resume", "--epoch", "2", "--threads", String(threads));
  assert.doesNotMatch(same, /WARN/);
  const other = await train("--resume", "--epoch", "3", "--threads", "1");
  assert.match(
    other,
    new RegExp(
      `WARN: the snapshot was written with TensorFlow \\S+ on the CPU \\(level ${level}, ${threads} threads\\), and this run uses TensorFlow \\S+ on the CPU \\(level ${level}, 1 thread\\): the last digits will differ; to restore them, use --threads ${threads}\n`,
    ),
  );
});

test("partial results record the level and the number of threads; resuming with another OMP_NUM_THREADS warns", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder, { validateVideos: 1400 });
  const trained = await spawnNextvlad([
    "train",
    "--config",
    config,
    "--save-dir",
    join(folder, "run"),
    "--epoch",
    "1",
    "--valid-interval",
    "0",
  ]);
  assert.equal(trained.exitCode, 0, trained.stderr);
  const infer = ["infer", "--weights", join(folder, "run", "NEXTVLAD_epoch0"), "--batch-size", "2", "--save-dir", join(folder, "out")];
  const stopped = await interruptNextvlad([...infer, "--threads", "1", "--log-interval", "1"], "Processed 100 batches", (child) =>
    child.kill("SIGTERM"),
  );
  assert.equal(stopped.exitCode, 143, stopped.output);
  const { threads, level } = stateOf(folder, "out", "NEXTVLAD_infer_result.partial");
  assert.deepEqual([threads, level], [1, stateOf(folder, "run", "NEXTVLAD_epoch0").written_by?.level]);
  const { exitCode, stderr } = await spawnNextvlad([...infer, "--resume"], { env: { ...process.env, OMP_NUM_THREADS: "3" } });
  assert.equal(exitCode, 0, stderr);
  assert.match(
    stderr,
    /WARN: the partial results were computed .*, 1 thread\), and .*, 3 threads\): .*; to restore them, use --threads 1\n/,
  );
});

test("an invalid number of threads is an error in --threads, and ignored in OMP_NUM_THREADS", async () => {
  const { exitCode, error } = await spawnNextvlad(["train", "--threads", "1025"]);
  assert.equal(exitCode, 2);
  assert.match(error, /--threads: invalid value \(expected an integer from 1 to 1024, found "1025"\)/);
  const shards = "test/golden/compat/059705b/train0.tfrecord";
  const verify = ["verify", shards, "--set", "MODEL.video_feature_size=16", "--set", "MODEL.audio_feature_size=8"];
  const { stderr } = await spawnNextvlad(verify, { env: { ...process.env, OMP_NUM_THREADS: "many" } });
  assert.match(stderr, /WARN: ignored the environment variable OMP_NUM_THREADS: expected an integer from 1 to 1024, found many\n/);
});
