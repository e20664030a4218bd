import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { program } from "../../src/cli.js";
import { compiled, runInTerminal, runNextvlad, runProgram } from "../helpers/nextvlad.js";
import { prepareRun, readLog } from "../helpers/runs.js";

let folder: string;
let config: string;
const at = (name: string): string => join(folder, name);

/** Runs a command with --json; returns its result, which must be all of stdout. */
async function json(...args: readonly string[]) {
  const { exitCode, stdout, stderr } = await runNextvlad([...args, "--json"]);
  assert.equal(exitCode, 0, stderr);
  return JSON.parse(stdout);
}

const METRICS = ["hit_at_one", "perr", "gap", "map", "loss"] as const;
const weights = (): readonly string[] => ["--weights", at("run/best")];
let trained: Awaited<ReturnType<typeof json>>;
let trainedStderr = "";

before(async () => {
  folder = mkdtempSync(join(tmpdir(), "json-"));
  config = await prepareRun(folder);
  const run = await runNextvlad(["train", "--config", config, "--save-dir", at("run"), "--batch-size", "20", "--verbose", "--json"]);
  assert.equal(run.exitCode, 0, run.stderr);
  [trained, trainedStderr] = [JSON.parse(run.stdout), run.stderr];
});
after(() => rmSync(folder, { recursive: true, force: true }));

describe("--json", () => {
  test("every command has it, except for those without a result", () => {
    const without = program.commands
      .filter(({ options }) => !options.some(({ long }) => long === "--json"))
      .map((command) => command.name());
    assert.deepEqual(without, ["completion", "setup"]);
  });

  test("of train: the snapshots, and the last validation as in the log", () => {
    const { best, validation, ...others } = trained;
    assert.deepEqual(others, {
      ...{ stopped: false, stopped_early: null, epochs: 2, steps: 10, last_snapshot: at("run/NEXTVLAD_epoch1") },
      ...{ resume_command: null, report: null },
    });
    assert.equal(best.path, at("run/best"));
    const logged = readLog(at("run")).findLast(({ msg }) => String(msg).startsWith("[VALID]"));
    assert.equal(validation.epoch, 1);
    for (const name of METRICS) assert.equal(validation[name], logged?.[name]);
  });

  test("of eval: the metrics as in the file of results", async () => {
    const { metrics, ...others } = await json("eval", ...weights(), "--save-dir", at("eval"), "--predictions", "csv", "--full-ranking");
    const stem = at("eval/NEXTVLAD_eval");
    assert.deepEqual(others, {
      ...{ stopped: false, videos: 40, partial_directory: null, resume_command: null, report: null },
      ...{ metrics_file: `${stem}_result.json`, diagnostics_file: `${stem}_diagnostics.json`, files: [`${stem}_predictions.csv`] },
    });
    const file = JSON.parse(readFileSync(`${stem}_result.json`, "utf8"));
    for (const name of [...METRICS, "videos"] as const) assert.equal(metrics[name], file[name]);
    const { aps, aucs: _, ...full } = file.full_ranking;
    assert.ok(aps.length > 0);
    assert.deepEqual(metrics.full_ranking, full);
  });

  test("of infer, ensemble and report: the files", async () => {
    const inferred = await json("infer", ...weights(), "--save-dir", at("infer"), "--format", "csv,jsonl");
    const files = [".csv", ".jsonl"].map((ending) => `${at("infer/NEXTVLAD_infer_result")}${ending}`);
    assert.deepEqual(inferred, { stopped: false, videos: 40, partial_directory: null, resume_command: null, files });
    const measured = ["--filelist", at("validate.list"), "--config", config];
    const { metrics, ...averaged } = await json("ensemble", ...files, "--save-dir", at("ensemble"), ...measured);
    assert.deepEqual(averaged, {
      ...{ stopped: false, videos: 40, metrics_file: at("ensemble/NEXTVLAD_ensemble_metrics.json") },
      files: [at("ensemble/NEXTVLAD_ensemble_result.pkl")],
    });
    assert.ok(metrics.gap > 0 && metrics.videos === 40);
    const unmeasured = await json("ensemble", ...files, "--save-dir", at("unmeasured"));
    assert.deepEqual([unmeasured.metrics, unmeasured.metrics_file], [null, null]);
    assert.deepEqual(await json("report", at("run"), "--out", at("report.html")), { report: at("report.html") });
  });

  test("of export, average and digits: the files", async () => {
    const exported = await json("export", ...weights(), "--format", "pdparams", "--out", at("exported"));
    assert.deepEqual(exported, { format: "pdparams", optimizer: true, files: [at("exported.pdparams"), at("exported.pdopt")] });
    const averaged = await json("average", at("run/best"), at("run/NEXTVLAD_epoch0"), "--out", at("average.safetensors"));
    assert.deepEqual(averaged, { weights: [at("run/best"), at("run/NEXTVLAD_epoch0")], files: [at("average.safetensors")] });
    const digits = await json("digits", "--out", at("digits"), "--train-videos", "2", "--validate-videos", "1");
    assert.deepEqual(digits.files.slice(-2), [at("digits/train.list"), at("digits/validate.list")]);
  });

  test("of convert: the numbers of videos and shards", async () => {
    assert.deepEqual(await json("convert", "--to", "pkl", "--filelist", at("validate.list"), "--out", at("pickles")), {
      ...{ stopped: false, videos: 40, shards_converted: 2, shards_up_to_date: 0, video_feature_size: 16, audio_feature_size: 8 },
      ...{ quantized: { rgb: null, audio: null }, truncated_videos: 0, list: at("pickles/validate.list") },
    });
  });

  test("is an error if the weights are written to a stream; an error prints no document", async () => {
    const args = ["export", ...weights(), "--format", "npz", "--out", "/dev/stdout", "--json"];
    const ended = await runProgram(process.execPath, [compiled("nextvlad.cjs"), ...args]);
    assert.deepEqual([ended.exitCode, ended.stdout], [2, ""]);
    assert.match(ended.error, /--json: the output is a stream, which may be standard output/);
  });
});

describe("--verbose", () => {
  test("logs where values come from, the processor level, shards and timings; without it, none of this is logged", async () => {
    for (const line of [
      /TRAIN\.batch_size = 20 \(default 160\): from --batch-size\n/,
      /MODEL\.cluster_size = 4 \(default 128\): from \S+config\.yaml\n/,
      /processor level \w+: the best that this processor supports, of v2/,
      /reading \S+train[01]\.tfrecord\n/,
      /TensorFlow loaded: \d+\.\d\d s after the start\n/,
      /it was copied in \d+ ms, while training waited, and written in \d+ ms\n/,
    ]) {
      assert.match(trainedStderr, line);
    }
    assert.doesNotMatch(trainedStderr, /(?:TRAIN\.seed|MODEL\.name) = /);
    // The second epoch has the shards in memory.
    assert.equal(trainedStderr.match(/reading \S+train0/g)?.length, 1);
    const { stderr } = await runNextvlad(["infer", ...weights(), "--save-dir", at("plain")]);
    assert.doesNotMatch(stderr, /DEBUG|after the start|reading /);
  });

  test("with --quiet is a usage error", async () => {
    const { exitCode, error } = await runNextvlad(["eval", ...weights(), "--quiet", "--verbose"]);
    assert.equal(exitCode, 2);
    assert.match(error, /--verbose: cannot be used with --quiet/);
  });
});

describe("eval on a terminal", () => {
  async function evaluate(...args: readonly string[]): Promise<string> {
    const { exitCode, stdout } = await runInTerminal(["eval", ...weights(), "--overwrite", ...args], 60);
    assert.equal(exitCode, 0, stdout);
    return stdout;
  }

  test("prints a table with class names; with --quiet or --json, the same as in a file", async () => {
    writeFileSync(at("names.txt"), "zero\none\ntwo\nthree\nfour\nfive\n");
    const flags = ["--save-dir", at("shown"), "--labels", at("names.txt")];
    const table = await evaluate(...flags);
    const { hit_at_one } = JSON.parse(readFileSync(at("shown/NEXTVLAD_eval_result.json"), "utf8"));
    assert.ok(table.startsWith(`40 videos, 6 classes\n  Hit@1   ${hit_at_one.toFixed(4)} `), table);
    assert.match(table, /\nclasses: average precision, videos, class\n(?: {2}\d\.\d{3} .* \d \w+\n){6}results, /);
    assert.ok(!table.includes("\u001b"), "no colors, whatever NO_COLOR and TERM are");
    assert.match(await evaluate(...flags, "--quiet"), /^\[EVAL\] eval finished\. \tavg_hit_at_one: /);
    assert.equal(JSON.parse(await evaluate(...flags, "--json")).metrics.hit_at_one, hit_at_one);
  });
});
