import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { runNextvlad } from "../helpers/nextvlad.js";
import { prepareRun, readLog } from "../helpers/runs.js";

async function succeeds(...args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runNextvlad(args);
  assert.equal(exitCode, 0, stderr);
  return stdout;
}

const MIXTURE = ["--model-name", "MIX_NEXTVLAD", "--set", "MODEL.num_mixtures=2"];

/** MixNeXtVLAD with a mixture of two experts per class, and another one that learns from it. */
describe("MODEL.name MIX_NEXTVLAD and TRAIN.teacher", () => {
  let folder: string;
  let config: string;
  const at = (...names: string[]): string => join(folder, ...names);
  const train = (saveDir: string, ...args: readonly string[]): readonly string[] => [
    "train",
    ...["--config", config, "--save-dir", at(saveDir), "--log-interval", "1", ...args],
  ];
  const taughtBy = (split: string): readonly string[] => [
    ...MIXTURE,
    ...["--set", `TRAIN.teacher=${at(split, "MIX_NEXTVLAD_infer_result.pkl")}`],
  ];
  const lossesIn = (saveDir: string): readonly number[] =>
    readLog(at(saveDir)).flatMap(({ tensors, loss }) => (tensors === undefined ? [] : [loss as number]));
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "nextvlad-test-"));
    config = await prepareRun(folder);
    await succeeds(...train("teacher", ...MIXTURE, "--epoch", "1"));
    const reading = ["--weights", at("teacher/MIX_NEXTVLAD_epoch0"), "--use-gpu", "False"];
    for (const split of ["train", "validate"])
      await succeeds("infer", ...reading, "--filelist", at(`${split}.list`), "--save-dir", at(split));
    await succeeds(...train("student", ...taughtBy("train"), "--epoch", "3"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test("trains with a teacher: the loss falls, tensors do not leak, and a resumed run has the same bytes", async () => {
    const steps = readLog(at("student")).filter(({ tensors }) => tensors !== undefined);
    assert.equal(new Set(steps.map(({ tensors }) => tensors)).size, 1);
    const losses = lossesIn("student");
    assert.ok((losses.at(-1) as number) < 0.9 * (losses[0] as number), `the loss falls: ${losses[0]} to ${losses.at(-1)}`);
    assert.notEqual(losses[0], lossesIn("teacher")[0], "the teacher should change the targets");
    await succeeds(...train("parts", ...taughtBy("train"), "--epoch", "2"));
    await succeeds("train", "--resume", "--save-dir", at("parts"), "--epoch", "3");
    for (const file of ["weights.safetensors", "optimizer.safetensors"]) {
      const [straight, resumed] = ["student", "parts"].map((run) => readFileSync(at(run, "MIX_NEXTVLAD_epoch2", file)));
      assert.ok(straight?.equals(resumed as Buffer), file);
    }
  });

  // float32 rounding, in another order of sums, which the batch norms amplify.
  test("has the same losses on two devices that compute in parts, for five steps within 1e-4", async () => {
    await succeeds(...train("two", ...taughtBy("train"), "--epoch", "1", "--devices", "2", "--threads", "1", "--accumulate", "2"));
    const [found, expected] = [lossesIn("two"), lossesIn("student")];
    assert.equal(found.length, expected.length / 3);
    for (const [step, loss] of found.slice(0, 5).entries())
      assert.ok(Math.abs(loss / (expected[step] as number) - 1) < 1e-4, `step ${step}`);
  });

  test("a training video that the teacher has not predicted is an error", async () => {
    const { exitCode, stderr } = await runNextvlad(train("untaught", ...taughtBy("validate")));
    assert.equal(exitCode, 1);
    assert.match(stderr, /error\[BAD_RESULTS\]: 16 of 16 videos of a batch are missing in the teacher's results, such as video\d+/);
  });

  test("exports to safetensors and npz, which give the same predictions without a config, and to onnx", async () => {
    const gapOf = async (weights: string, saveDir: string): Promise<unknown> => {
      await succeeds("eval", "--weights", weights, "--save-dir", at(saveDir), "--filelist", at("validate.list"), "--use-gpu", "False");
      return (JSON.parse(readFileSync(at(saveDir, "MIX_NEXTVLAD_eval_result.json"), "utf8")) as { readonly gap: unknown }).gap;
    };
    const snapshot = at("student/MIX_NEXTVLAD_epoch2");
    const expected = await gapOf(snapshot, "eval");
    for (const format of ["safetensors", "npz", "onnx"]) {
      const out = at(`weights.${format}`);
      await succeeds("export", "--weights", snapshot, "--format", format, "--out", out);
      if (format === "onnx") assert.ok(existsSync(out));
      else assert.equal(await gapOf(out, `eval-${format}`), expected, format);
    }
  });
});
