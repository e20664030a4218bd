import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryFolder } from "../helpers/files.js";
import { interruptNextvlad, spawnNextvlad } from "../helpers/nextvlad.js";
import { prepareRun } from "../helpers/runs.js";

// These runs need their own processes, because a process loads TensorFlow once.

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
    const { output } = await interruptNextvlad([...args, "--log-interval", "1", "--threads", String(count)], "iter 2 ", act);
    assert.ok(found > 0, output);
    return found;
  };
  const [one, four] = [await countThreads(1), await countThreads(4)];
  // TensorFlow has two pools: within an operation, and for operations.
  assert.equal(four - one, 3 * 3);
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
