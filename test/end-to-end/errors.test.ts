import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { encodeTfRecord } from "../../src/formats/containers/tfrecord.js";
import { encodeSequenceExample } from "../../src/formats/protobuf/sequence-example.js";
import { blockFiles } from "../helpers/files.js";
import { type CommandResult, compiled, runNextvlad } from "../helpers/nextvlad.js";
import { encodeNpy } from "../helpers/npy.js";
import { learnableVideo, prepareRun } from "../helpers/runs.js";

/** An invalid input: the arguments, the exit code, and what the message must name. */
interface Case {
  readonly args: () => readonly string[];
  readonly exitCode: 1 | 2;
  readonly names: readonly RegExp[];
  /** Log output before the error. */
  readonly log?: RegExp;
}

let folder: string;
let config: string;
let trained: CommandResult;
const at = (name: string): string => join(folder, name);

/** Writes a shard with one record of the given frames and labels, and a list of it; returns the list's path. */
function oddShard(
  name: string,
  options: { rgbFrames?: number; audioFrames?: number; labels?: readonly number[] | null; context?: Record<string, Uint8Array> },
): string {
  const { rgbFrames = 3, audioFrames = 3, labels = [1], context } = options;
  const data = encodeSequenceExample({
    context: context ?? { id: Buffer.from("odd"), ...(labels === null ? {} : { labels }) },
    frameLists:
      context === undefined
        ? [
            { name: "rgb", frameBytes: 16, data: new Uint8Array(16 * rgbFrames) },
            { name: "audio", frameBytes: 8, data: new Uint8Array(8 * audioFrames) },
          ]
        : [],
  });
  return listOf(name, encodeTfRecord(data));
}

function listOf(name: string, shard: Uint8Array | string): string {
  writeFileSync(at(`${name}.tfrecord`), shard);
  writeFileSync(at(`${name}.list`), `${name}.tfrecord\n`);
  return at(`${name}.list`);
}

let runs = 0;
/** Each run has its own save-dir, because a run that fails inside an epoch leaves a snapshot. */
const train = (...more: string[]): string[] => [
  "train",
  "--config",
  config,
  "--save-dir",
  at(`train${runs++}`),
  "--valid-interval",
  "0",
  ...more,
];
const trainOn = (list: string): string[] => train("--set", `TRAIN.filelist=${list}`);
const evaluate = (...more: string[]): string[] => ["eval", "--weights", at("weights/best"), "--save-dir", at("out"), ...more];

const cases: Record<string, Case> = {
  "a flipped byte in a shard": {
    args: () => {
      const bytes = readFileSync(at("train0.tfrecord"));
      bytes[bytes.length - 100] = (bytes[bytes.length - 100] as number) ^ 1;
      return trainOn(listOf("flipped", bytes));
    },
    exitCode: 1,
    names: [/flipped\.tfrecord, record 49, byte \d+: /, /checksum/],
  },
  "a truncated shard": {
    args: () => trainOn(listOf("short", readFileSync(at("train0.tfrecord")).subarray(0, -50))),
    exitCode: 1,
    names: [/short\.tfrecord, record 49, byte \d+: /],
  },
  "a missing file in the list": {
    args: () => {
      writeFileSync(at("missing.list"), "train0.tfrecord\nnowhere.tfrecord\n");
      return trainOn(at("missing.list"));
    },
    exitCode: 1,
    names: [/nowhere\.tfrecord/, /missing\.list/],
  },
  "a text file in the list": {
    args: () => trainOn(listOf("text", "This is a text file and not a TFRecord shard.\n".repeat(20))),
    exitCode: 1,
    names: [/text\.tfrecord/, /not a TFRecord file/i],
  },
  "a video-level shard": {
    args: () =>
      trainOn(oddShard("videolevel", { context: { id: Buffer.from("x"), mean_rgb: new Uint8Array(16), mean_audio: new Uint8Array(8) } })),
    exitCode: 1,
    names: [/videolevel\.tfrecord, record 0/, /video-level/],
  },
  "an unknown config key": {
    args: () => train("--set", "TRAIN.learning_rat=1"),
    exitCode: 2,
    names: [/TRAIN\.learning_rat\b/, /learning_rate/],
  },
  "a mistyped flag": { args: () => train("--lerning-rate", "1"), exitCode: 2, names: [/--lerning-rate/, /--learning-rate/] },
  "weights of another shape": {
    args: () => evaluate("--set", "MODEL.num_classes=12", "--filelist", at("validate.list")),
    exitCode: 1,
    names: [/weights\/best/, /logits_clf_weights is \[16, 6\], expected \[16, 12\]/],
  },
  "an unwritable save dir": {
    args: () => {
      writeFileSync(at("file"), "");
      return [...train(), "--save-dir", at("file/out")];
    },
    exitCode: 1,
    names: [/file\/out/],
  },
  "fewer videos than batch_size in training": {
    args: () => train("--batch-size", "101"),
    exitCode: 1,
    names: [/at least 101 videos, found 100 in 2 shards/],
  },
  "shards without labels in eval": {
    args: () => evaluate("--filelist", oddShard("unlabelled", { labels: null })),
    exitCode: 1,
    names: [/unlabelled\.tfrecord, record 0/, /labels/],
  },
  "shards whose lists of labels are empty, in eval": {
    args: () => evaluate("--filelist", oddShard("nolabels", { labels: [] }), "--save-interval", "1"),
    exitCode: 1,
    log: /^(?![\s\S]*resume with)/,
    names: [/nolabels\.list: cannot compute metrics: none of the 1 videos has a label\. Pass shards with labels/],
  },
  "shards whose lists of labels are empty, in training and validation": {
    args: () => {
      const list = oddShard("nolabels", { labels: [] });
      const flags = [
        "--set",
        `VALID.filelist=${list}`,
        "--batch-size",
        "1",
        "--epoch",
        "1",
        "--valid-interval",
        "1",
        "--learning-rate",
        "1e-12",
      ];
      return [...trainOn(list), ...flags, "--save-dir", at("unlabelled")];
    },
    exitCode: 1,
    log: /WARN: TRAIN\.batch_size = 1: [\s\S]*WARN: the learning rate of step 0 is 1e-12: [\s\S]*WARN: 1 of 1 videos in this epoch have no labels/,
    names: [/nolabels\.list: cannot compute metrics: none of the 1 videos has a label/],
  },
  "a label >= num_classes": {
    args: () => trainOn(oddShard("label", { labels: [1, 6] })),
    exitCode: 1,
    names: [/label\.tfrecord, record 0/, /found 6/],
  },
  "a video with no frames": {
    args: () => trainOn(oddShard("empty", { rgbFrames: 0, audioFrames: 0 })),
    exitCode: 1,
    names: [/empty\.tfrecord, record 0/, /no frames/],
  },
  "rgb and audio of different length": {
    args: () => trainOn(oddShard("uneven", { audioFrames: 2 })),
    exitCode: 1,
    names: [/uneven\.tfrecord, record 0/, /3 frames/, /found 2/],
  },
  "an empty list": {
    args: () => {
      writeFileSync(at("nothing.list"), "\n# no shard\n\n");
      return trainOn(at("nothing.list"));
    },
    exitCode: 1,
    names: [/nothing\.list/],
  },
  "--use-gpu True without a GPU": {
    args: () => train("--use-gpu", "True"),
    exitCode: 1,
    names: [/use_gpu/, /CUDA/],
  },
  "a precision for GPUs in training on the CPU": {
    args: () => train("--precision", "tf32", "--use-gpu", "False"),
    exitCode: 2,
    names: [/--precision: tf32 requires a GPU\./],
  },
  "a precision for GPUs in evaluation on the CPU": {
    args: () => evaluate("--precision", "tf32", "--use-gpu", "False", "--filelist", at("validate.list")),
    exitCode: 2,
    names: [/--precision: tf32 requires a GPU\./],
  },
  "a folder without weights": {
    args: () => ["eval", "--config", config, "--weights", folder, "--save-dir", at("out")],
    exitCode: 1,
    names: [/no weights in this directory: config\.yaml, /, /a directory of Paddle variables/],
  },
  "a missing eigen file": {
    args: () => train("--set", "MODEL.eigen_file=nowhere.npy"),
    exitCode: 1,
    names: [/nowhere\.npy/, /file not found/],
  },
  "--no-memory-optimize": { args: () => train("--no-memory-optimize"), exitCode: 2, names: [/no-memory-optimize/] },
  "--is-profiler": { args: () => train("--is_profiler", "1"), exitCode: 2, names: [/is-profiler/] },
  "--profiler-path": { args: () => train("--profiler-path", "x"), exitCode: 2, names: [/profiler-path/] },
  "--video-path": { args: () => ["infer", "--video_path", "x"], exitCode: 2, names: [/video-path/] },
  "--enable-ce": { args: () => train("--enable_ce"), exitCode: 2, names: [/enable-ce/] },
};

describe("invalid input gets one error and an exit code", () => {
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "nextvlad-test-"));
    config = await prepareRun(folder);
    writeFileSync(
      at("mean.npy"),
      encodeNpy(
        Float32Array.from({ length: 1024 }, (_, i) => (i * 7) % 5),
        [1024],
      ),
    );
    const eigen = `MODEL.eigen_file=${at("mean.npy")}`;
    trained = await runNextvlad(["train", "--config", config, "--epoch", "1", "--save-dir", at("weights"), "--set", eigen]);
    assert.equal(trained.exitCode, 0, trained.stderr);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  for (const [name, { args, exitCode, names, log }] of Object.entries(cases)) {
    test(name, async (t) => {
      rmSync(at("out"), { recursive: true, force: true });
      mkdirSync(at("out"));
      const ended = await runNextvlad(args());
      assert.equal(ended.exitCode, exitCode, ended.stderr);
      assert.equal(ended.stderr.match(/^error/gm)?.length, 1, ended.stderr);
      for (const pattern of names) assert.match(ended.error, pattern);
      if (log !== undefined) assert.match(ended.stderr, log);
      assert.doesNotMatch(ended.stderr, /^\s+at /m, "no stack trace");
      t.diagnostic(`exit ${ended.exitCode}: ${ended.error.replaceAll(folder, "DIR")}`);
    });
  }

  test("mean.npy as eigen_file causes a warning", () => {
    assert.match(trained.stderr, /warn.*mean\.npy does not look like eigenvalues.*use eigenvals\.npy/i);
  });

  test("a list may have blank lines, comments, duplicates and relative paths", async () => {
    writeFileSync(at("odd.list"), "\n# shards\ntrain0.tfrecord\n\ntrain1.tfrecord\ntrain0.tfrecord\n");
    const ended = await runNextvlad(["infer", "--weights", at("weights/best"), "--filelist", at("odd.list"), "--save-dir", at("infer")]);
    assert.equal(ended.exitCode, 0, ended.stderr);
    // train0 is read twice, as in PaddleVideo.
    assert.match(ended.stdout, /videos: 150\b/);
  });

  test("a video of one frame is supported", async () => {
    const { id, labels } = learnableVideo(1);
    const data = encodeSequenceExample({
      context: { video_id: Buffer.from(id), labels },
      frameLists: [
        { name: "rgb", frameBytes: 16, data: new Uint8Array(16) },
        { name: "audio", frameBytes: 8, data: new Uint8Array(8) },
      ],
    });
    const ended = await runNextvlad(evaluate("--filelist", listOf("one", encodeTfRecord(data))));
    assert.equal(ended.exitCode, 0, ended.stderr);
  });
});

test("with more shards whose reads never return than Node has threads by default, the run still saves and the process exits", async (t) => {
  const own = mkdtempSync(join(tmpdir(), "nextvlad-test-"));
  t.after(() => rmSync(own, { recursive: true, force: true }));
  const ownConfig = await prepareRun(own);
  const held = Array.from({ length: 6 }, (_, number) => `held${number}.tfrecord`);
  for (const name of held) copyFileSync(join(own, "train0.tfrecord"), join(own, name));
  await blockFiles(
    t,
    held.map((name) => join(own, name)),
  );
  writeFileSync(join(own, "train.list"), ["train0.tfrecord", ...held].map((shard) => `${shard}\n`).join(""));
  const saveDir = join(own, "out");
  const child = spawn(process.execPath, [compiled("nextvlad.cjs"), "train", "--config", ownConfig, "--save-dir", saveDir], {
    timeout: 60_000,
  });
  let output = "";
  let asking: NodeJS.Timeout | undefined;
  let isStopped = false;
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      // A run that responds to save requests is past its start, and can only be waiting for its first batch.
      if (output.includes("trainable parameters")) asking ??= setInterval(() => child.kill("SIGUSR1"), 300);
      if (isStopped || !output.includes("INFO: snapshot: ")) return;
      isStopped = true;
      clearInterval(asking);
      child.kill("SIGTERM");
    });
  }
  const [exitCode, signal] = (await once(child, "close")) as [number | null, NodeJS.Signals | null];
  assert.deepEqual([exitCode, signal], [null, "SIGKILL"], output);
  assert.match(output, /checked the first records of 3 of 9 shards in 10 s/);
  assert.match(output, /SIGTERM: finishing the step and saving/);
  assert.match(output, /a read never returned \(dead disk or mount\): killing the process instead of exiting with 143/);
  assert.match(output, /last snapshot: \S+NEXTVLAD_step0\nresume with: nextvlad train .* --resume\n/);
  assert.ok(existsSync(join(saveDir, "NEXTVLAD_step0", "state.json")));
});
