import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { runNextvlad } from "../helpers/nextvlad.js";
import { readLog } from "../helpers/runs.js";

const SIZES = ["cluster_size=4", "hidden_size=32", "gating_reduction=4"].map((setting) => `MODEL.${setting}`);

async function succeeds(...args: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await runNextvlad(args);
  assert.equal(exitCode, 0, stderr);
  return stdout;
}

async function failsWith(message: RegExp, ...args: readonly string[]): Promise<void> {
  const { exitCode, stderr } = await runNextvlad(args);
  assert.notEqual(exitCode, 0);
  assert.match(stderr, message);
}

/** NetVLAD on videos of digits, with the demo's config and smaller sizes. */
describe("MODEL.name NETVLAD", () => {
  let folder: string;
  const at = (...names: string[]): string => join(folder, ...names);
  const settings = (): string[] =>
    [
      ...SIZES,
      `TRAIN.filelist=${at("digits/train.list")}`,
      `VALID.filelist=${at("digits/validate.list")}`,
      "TRAIN.use_gpu=False",
      "TRAIN.learning_rate=0.01",
    ].flatMap((setting) => ["--set", setting]);
  const train = (saveDir: string, name: string, ...args: readonly string[]): readonly string[] => [
    "train",
    "--config",
    "configs/digits.yaml",
    "--model-name",
    name,
    "--save-dir",
    at(saveDir),
    ...settings(),
    ...args,
  ];
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "nextvlad-test-"));
    await succeeds("digits", "--out", at("digits"), "--train-videos", "256", "--validate-videos", "64");
    await succeeds(...train("run", "NETVLAD", "--epoch", "3", "--log-interval", "1"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test("trains on digits: the loss falls, tensors do not leak, and snapshots are named after the model", () => {
    assert.deepEqual(
      readdirSync(at("run")).filter((name) => /^[A-Z]/.test(name)),
      ["NETVLAD_epoch0", "NETVLAD_epoch1", "NETVLAD_epoch2"],
    );
    const steps = readLog(at("run")).filter(({ tensors }) => tensors !== undefined);
    assert.equal(new Set(steps.map(({ tensors }) => tensors)).size, 1);
    const losses = steps.map(({ loss }) => loss as number);
    assert.ok((losses.at(-1) as number) < 0.7 * (losses[0] as number), `the loss falls: ${losses[0]} to ${losses.at(-1)}`);
    const notes = readLog(at("run")).filter(({ msg }) => /groups and MODEL.expansion have no effect/.test(String(msg)));
    assert.equal(notes.length, 1);
  });

  test("resumes to the same bytes as a run that was never stopped", async () => {
    await succeeds(...train("parts", "NETVLAD", "--epoch", "2"));
    await succeeds("train", "--resume", "--save-dir", at("parts"), "--epoch", "3");
    for (const file of ["weights.safetensors", "optimizer.safetensors"]) {
      assert.ok(readFileSync(at("parts/NETVLAD_epoch2", file)).equals(readFileSync(at("run/NETVLAD_epoch2", file))), file);
    }
  });

  test("evaluates and infers, from a snapshot and from exported weights without a config, into files named after the model", async () => {
    const reading = ["--filelist", at("digits/validate.list"), "--use-gpu", "False"];
    await succeeds("eval", "--weights", at("run/NETVLAD_epoch2"), "--save-dir", at("eval"), ...reading);
    const { gap, videos } = JSON.parse(readFileSync(at("eval/NETVLAD_eval_result.json"), "utf8")) as Record<string, number>;
    assert.equal(videos, 64);
    assert.ok((gap as number) > 0.2, `GAP ${gap}: random predictions have 0.1`);
    for (const [format, out] of [
      ["npz", "weights.npz"],
      ["pdparams", "weights"],
      ["paddle-vars", "variables"],
    ] as const) {
      await succeeds("export", "--weights", at("run/NETVLAD_epoch2"), "--format", format, "--out", at(out));
      await succeeds("eval", "--weights", at(out), "--save-dir", at(`eval-${format}`), ...reading);
      const exported = JSON.parse(readFileSync(at(`eval-${format}`, "NETVLAD_eval_result.json"), "utf8")) as Record<string, number>;
      assert.equal(exported.gap, gap, format);
    }
    await succeeds("export", "--weights", at("run/NETVLAD_epoch2"), "--format", "onnx", "--out", at("netvlad.onnx"));
    await succeeds("infer", "--weights", at("run/best"), "--save-dir", at("infer"), ...reading);
    assert.ok(existsSync(at("infer/NETVLAD_infer_result.pkl")));
    await succeeds("ensemble", at("infer/NETVLAD_infer_result.pkl"), at("infer/NETVLAD_infer_result.pkl"), "--save-dir", at("ensemble"));
    assert.ok(existsSync(at("ensemble/NETVLAD_ensemble_result.pkl")));
  });

  test("weights and save-dirs of one model are not used for the other", async () => {
    await succeeds(...train("nextvlad", "NEXTVLAD", "--epoch", "1", "--valid-interval", "0"));
    const [netvlad, nextvlad] = [at("run/NETVLAD_epoch2"), at("nextvlad/NEXTVLAD_epoch0")];
    const mismatch = (expected: string, found: string): RegExp =>
      new RegExp(`weights are of another model.*expected ${expected}, found ${found}`);
    const reading = ["--filelist", at("digits/validate.list"), "--save-dir", at("other")];
    await failsWith(mismatch("NEXTVLAD", "NETVLAD"), "eval", "--weights", netvlad, "--model-name", "NEXTVLAD", ...reading);
    await failsWith(mismatch("NETVLAD", "NEXTVLAD"), "eval", "--weights", nextvlad, "--model-name", "NETVLAD", ...reading);
    await failsWith(mismatch("NETVLAD", "NEXTVLAD"), ...train("other", "NETVLAD", "--pretrain", nextvlad));
    await failsWith(mismatch("NEXTVLAD", "NETVLAD"), ...train("other", "NEXTVLAD", "--resume", netvlad));
    const taken = /snapshots of another model: NEXTVLAD_epoch0/;
    await failsWith(taken, ...train("nextvlad", "NETVLAD"));
    await failsWith(taken, ...train("nextvlad", "NETVLAD", "--resume", netvlad, "--epoch", "4"));
    assert.deepEqual(
      readdirSync(at("nextvlad")).filter((name) => /^[A-Z]|best/.test(name)),
      ["NEXTVLAD_epoch0"],
    );
  });

  test("the integer precisions are an error", async () => {
    const reading = ["--filelist", at("digits/validate.list"), "--save-dir", at("other"), "--use-gpu", "False"];
    await failsWith(/NETVLAD does not support int8/, "eval", "--weights", at("run/best"), "--precision", "int8", ...reading);
  });
});
