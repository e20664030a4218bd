import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { temporaryFolder } from "../helpers/files.js";
import { runNextvlad } from "../helpers/nextvlad.js";
import { prepareRun } from "../helpers/runs.js";

async function succeeds(args: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await runNextvlad(args);
  assert.equal(exitCode, 0, stderr);
}

test("training and evaluation accept pickles and TFRecords in one list, with the same results byte for byte", async (t) => {
  const folder = temporaryFolder(t);
  const config = await prepareRun(folder);
  for (const split of ["train", "validate"]) {
    await succeeds(["convert", "--to", "pkl", "--filelist", join(folder, `${split}.list`), "--out", join(folder, "pickles")]);
  }
  const mixed = join(folder, "mixed.list");
  writeFileSync(mixed, "train0.tfrecord\npickles/train1.pkl\n");
  const pickled = join(folder, "pickles", "validate.list");
  const [plain, other] = [join(folder, "plain"), join(folder, "other")];
  await succeeds(["train", "--config", config, "--save-dir", plain]);
  await succeeds([
    ...["train", "--config", config, "--save-dir", other],
    ...["--set", `TRAIN.filelist=${mixed}`, "--set", `VALID.filelist=${pickled}`, "--set", "TRAIN.num_readers=1"],
  ]);
  const bytesOf = (saveDir: string, name: string): Buffer => readFileSync(join(saveDir, name));
  for (const name of ["NEXTVLAD_epoch1/weights.safetensors", "NEXTVLAD_epoch1/optimizer.safetensors", "best/weights.safetensors"]) {
    assert.deepEqual(bytesOf(other, name), bytesOf(plain, name), name);
  }
  const evaluate = ["eval", "--weights", join(plain, "best"), "--use-gpu", "False"];
  await succeeds([...evaluate, "--filelist", join(folder, "validate.list"), "--save-dir", plain]);
  await succeeds([...evaluate, "--filelist", pickled, "--save-dir", other]);
  assert.deepEqual(bytesOf(other, "NEXTVLAD_eval_result.json"), bytesOf(plain, "NEXTVLAD_eval_result.json"));
});
