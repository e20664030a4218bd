import assert from "node:assert/strict";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { type ErrorCode, NextvladError } from "../../src/base/errors.js";
import { runConvert } from "../../src/commands/convert.js";
import { runEnsemble } from "../../src/commands/ensemble.js";
import { runEval } from "../../src/commands/eval.js";
import { runExport } from "../../src/commands/export.js";
import type { ConvertFlags, EnsembleFlags, EvalFlags, ExportFlags, InferFlags, TrainFlags } from "../../src/commands/flags.js";
import { runInfer } from "../../src/commands/infer.js";
import { runInspect } from "../../src/commands/inspect.js";
import { runTrain } from "../../src/commands/train.js";
import { runVerify } from "../../src/commands/verify.js";
import { writeShard } from "../../src/data/shard-writer.js";
import { corruptData, corruptLength } from "../helpers/corrupt.js";
import { CLASSES, learnableVideo, prepareRun } from "../helpers/runs.js";

const root = mkdtempSync(join(tmpdir(), "nextvlad-test-"));
const at = (...parts: string[]): string => join(root, ...parts);
/** A folder that does not exist, in a parent that does not exist either. */
const out = at("new", "out");
let config = "";

before(async () => {
  config = await prepareRun(root, { trainVideos: 40, validateVideos: 20 });
  assert.equal(await runTrain(train({ saveDir: at("run"), epoch: "1", validInterval: { epochs: 0 } })), 0);
  cpSync(at("run"), at("other"), { recursive: true });
  const files = ["train0.tfrecord", "train1.tfrecord", "train0.tfrecord"].map((name) => readFileSync(at(name)));
  writeFileSync(at("first-batch.tfrecord"), Buffer.concat(files));
  corruptData(at("first-batch.tfrecord"), 3);
  writeFileSync(at("later.tfrecord"), Buffer.concat([...files, ...files, ...files]));
  corruptData(at("later.tfrecord"), 170);
  writeFileSync(at("header.tfrecord"), Buffer.concat(files));
  corruptLength(at("header.tfrecord"), 30);
  await writeShard(at("label.tfrecord"), [learnableVideo(1), { ...learnableVideo(2), labels: Int32Array.of(CLASSES) }]);
  writeFileSync(at("truncated.safetensors"), readFileSync(at("run/NEXTVLAD_epoch0/weights.safetensors")).subarray(0, 9000));
  assert.equal(await runInfer(infer({ saveDir: at("results"), format: ["csv"] })), 0);
  const results = readFileSync(at("results/NEXTVLAD_infer_result.csv"), "utf8").split("\n");
  writeFileSync(at("one.csv"), results.slice(0, 3).join("\n"));
  writeFileSync(at("bad.csv"), `${results.slice(0, 3).join("\n")}\nvideo7,no pairs\n`);
  writeFileSync(at("table.csv"), "id,labels\nmissing,1\n");
});
after(() => rmSync(root, { recursive: true, force: true }));

const SNAPSHOT = "run/NEXTVLAD_epoch0";
const train = (flags: Partial<TrainFlags>): TrainFlags => ({
  config,
  saveDir: out,
  logInterval: 10,
  validInterval: { epochs: 1 },
  ...flags,
});
const evaluate = (flags: Partial<EvalFlags>): EvalFlags => ({ weights: at(SNAPSHOT), saveDir: out, ...flags });
const infer = (flags: Partial<InferFlags>): InferFlags => ({
  weights: at(SNAPSHOT),
  saveDir: out,
  inferTopk: 20,
  format: ["pickle"],
  ...flags,
});
const ensemble = (files: readonly string[], flags: Partial<EnsembleFlags> = {}) =>
  runEnsemble(
    files.map((file) => at(file)),
    { saveDir: out, inferTopk: 20, format: ["pickle"], ...flags },
  );
const convert = (flags: Partial<ConvertFlags>): ConvertFlags => ({
  to: "pkl",
  out,
  featureNames: ["rgb", "audio"],
  rgbRange: [-2, 2],
  audioRange: [-2, 2],
  videosPerShard: 250,
  maxFrames: 300,
  workers: 1,
  ...flags,
});
const exportTo = (flags: Partial<ExportFlags>): ExportFlags => ({
  weights: at(SNAPSHOT),
  format: "safetensors",
  out: join(out, "weights.safetensors"),
  ...flags,
});
const otherClasses = ["MODEL.num_classes=7"];

/** Each command fails with this error before it does anything: no batch, no step, no shard. */
const failures: Readonly<Record<string, readonly [ErrorCode, () => Promise<number>]>> = {
  "train, weights of another shape": ["BAD_WEIGHTS", () => runTrain(train({ resume: at(SNAPSHOT), set: otherClasses }))],
  "train, other settings than the run's": ["BAD_CONFIG", () => runTrain(train({ resume: at(SNAPSHOT), set: ["TRAIN.seed=5"] }))],
  "train, no key of this name": ["BAD_CONFIG", () => runTrain(train({ resume: at(SNAPSHOT), set: ["TRAIN.sed=5"] }))],
  "train, both kinds of weights": ["BAD_USAGE", () => runTrain(train({ resume: at(SNAPSHOT), pretrain: at(SNAPSHOT) }))],
  "train, the second weights corrupt": [
    "BAD_FORMAT",
    () => runTrain(train({ resume: at(SNAPSHOT), pretrain: at("truncated.safetensors") })),
  ],
  "train, weights of which nothing fits": ["BAD_WEIGHTS", () => runTrain(train({ pretrain: at("nothing"), set: otherClasses }))],
  "train, no list": ["FILE_MISSING", () => runTrain(train({ pretrain: at(SNAPSHOT), set: ["TRAIN.filelist=nowhere"] }))],
  "train, a corrupt length": [
    "CORRUPT_RECORD",
    () => runTrain(train({ pretrain: at(SNAPSHOT), set: [`TRAIN.filelist=${at("header.tfrecord")}`] })),
  ],
  "train, a corrupt record in the first batch": [
    "CORRUPT_RECORD",
    () => runTrain(train({ pretrain: at(SNAPSHOT), set: [`TRAIN.filelist=${at("first-batch.tfrecord")}`] })),
  ],
  "train, too few videos": ["TOO_FEW_VIDEOS", () => runTrain(train({ batchSize: "1000" }))],
  "eval, weights of another shape": ["BAD_WEIGHTS", () => runEval(evaluate({ set: otherClasses }))],
  "eval, no weights": ["FILE_MISSING", () => runEval(evaluate({ weights: at("nowhere") }))],
  "eval, corrupt weights": ["BAD_FORMAT", () => runEval(evaluate({ weights: at("truncated.safetensors") }))],
  "eval, an invalid label in the first batch": ["BAD_LABELS", () => runEval(evaluate({ filelist: at("label.tfrecord") }))],
  "eval, a corrupt record in the first batch": [
    "CORRUPT_RECORD",
    () => runEval(evaluate({ filelist: at("first-batch.tfrecord"), predictions: ["jsonl"] })),
  ],
  "infer, weights of another shape": ["BAD_WEIGHTS", () => runInfer(infer({ set: otherClasses }))],
  "infer, no list": ["FILE_MISSING", () => runInfer(infer({ filelist: at("nowhere") }))],
  "infer, an odd list of labels": ["BAD_FORMAT", () => runInfer(infer({ format: ["jsonl"], labels: at("truncated.safetensors") }))],
  "infer, a corrupt record in the first batch": ["CORRUPT_RECORD", () => runInfer(infer({ filelist: at("first-batch.tfrecord") }))],
  "export, weights of another shape": ["BAD_WEIGHTS", () => runExport(exportTo({ set: otherClasses, format: "onnx" }))],
  "export, weights changed on disk": [
    "BAD_SNAPSHOT",
    () => runExport(exportTo({ weights: at("other/NEXTVLAD_epoch0"), format: "pdparams" })),
  ],
  "ensemble, no results": ["FILE_MISSING", () => ensemble(["one.csv", "nowhere.csv"])],
  "ensemble, results of other videos": ["BAD_RESULTS", () => ensemble(["results/NEXTVLAD_infer_result.csv", "one.csv"])],
  "ensemble, corrupt results": ["BAD_FORMAT", () => ensemble(["results/NEXTVLAD_infer_result.csv", "bad.csv"])],
  "ensemble, labels of other videos": ["BAD_RESULTS", () => ensemble(["one.csv"], { filelist: at("validate.list"), config })],
  "convert, a corrupt record": ["CORRUPT_RECORD", () => runConvert(convert({ filelist: at("first-batch.tfrecord") }))],
  "convert, no features": ["FILE_MISSING", () => runConvert(convert({ to: "tfrecord", csv: at("table.csv"), rgb: at("{id}.npy") }))],
  "inspect, no file": ["FILE_MISSING", () => runInspect(at("nowhere"), {})],
  "verify, no list": ["FILE_MISSING", () => runVerify(at("nowhere"), {})],
};

/** Files below the test's folder that this process, including its threads, has open. */
function openFiles(): string[] {
  const targets = readdirSync("/proc/self/fd").map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return "";
    }
  });
  return targets.filter((target) => target.startsWith(root));
}

const tree = (): readonly string[] => readdirSync(root, { recursive: true, encoding: "utf8" }).sort();

describe("a command that fails before its first progress leaves no file, directory or open descriptor", () => {
  before(() => {
    const file = at("other/NEXTVLAD_epoch0/weights.safetensors");
    const bytes = readFileSync(file);
    bytes[bytes.length - 1] = 1;
    writeFileSync(file, bytes);
    mkdirSync(at("nothing"));
    writeFileSync(at("nothing", "weights.safetensors"), oneArray());
  });

  for (const [name, [code, run]] of Object.entries(failures)) {
    test(name, async () => {
      const before = tree();
      const error = await run().then(
        () => assert.fail("it succeeded"),
        (thrown: unknown) => thrown,
      );
      assert.ok(error instanceof NextvladError, String(error));
      assert.equal(error.code, code, error.message);
      assert.deepEqual(tree(), before);
      assert.deepEqual(openFiles(), []);
    });
  }

  test("inspect and verify of corrupt shards close all files too", async () => {
    assert.equal(await runInspect(at("header.tfrecord"), {}), 1);
    assert.equal(await runVerify(at("*.tfrecord"), { config }), 1);
    assert.deepEqual(openFiles(), []);
  });
});

test("a log that was there, and one of work that was done, stays", async () => {
  mkdirSync(at("logged"));
  writeFileSync(at("logged/eval.log.jsonl"), "{}\n");
  await assert.rejects(runEval(evaluate({ saveDir: at("logged"), set: otherClasses })), { code: "BAD_WEIGHTS" });
  assert.match(readFileSync(at("logged/eval.log.jsonl"), "utf8"), /^\{\}\n[\s\S]*"code":"BAD_WEIGHTS"/);
  await assert.rejects(runEval(evaluate({ saveDir: at("begun"), filelist: at("later.tfrecord") })), {
    code: "CORRUPT_RECORD",
  });
  assert.match(readFileSync(at("begun/eval.log.jsonl"), "utf8"), /"code":"CORRUPT_RECORD"/);
});

test("ensemble's log has its inputs and its outcome", async () => {
  assert.equal(
    await ensemble(["results/NEXTVLAD_infer_result.csv"], { saveDir: at("averaged"), filelist: at("validate.list"), config }),
    0,
  );
  const lines = readFileSync(at("averaged/ensemble.log.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  assert.match(lines[0].msg, /^averaging \S+NEXTVLAD_infer_result\.csv \(weight 1\), measured on \S+validate\.list/);
  const last = lines.at(-1);
  assert.deepEqual([last.videos, last.files], [20, [at("averaged/NEXTVLAD_ensemble_result.pkl")]]);
  assert.ok(last.gap > 0 && statSync(last.files[0]).size > 0);
});

/** A weights file of a snapshot with a single array, which no model has. */
function oneArray(): Buffer {
  const header = JSON.stringify({ other: { dtype: "F32", shape: [1], data_offsets: [0, 4] } });
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, Buffer.from(header), Buffer.alloc(4)]);
}
