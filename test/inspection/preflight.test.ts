import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { deflateSync, gzipSync } from "node:zlib";
import { freeBytes } from "../../src/base/output-checks.js";
import { buildConfig } from "../../src/config/load.js";
import type { CorruptPolicy } from "../../src/config/value-types.js";
import { writeShard } from "../../src/data/shard-writer.js";
import { encodeTfRecord } from "../../src/formats/containers/tfrecord.js";
import { encodeSequenceExample } from "../../src/formats/protobuf/sequence-example.js";
import { type Findings, joinProblems, type Needs, preflight } from "../../src/inspection/preflight.js";
import { CHECK_LIMITS, type CheckLimits } from "../../src/inspection/shard-checks.js";
import { requireSpace } from "../../src/inspection/snapshot-space.js";
import { corruptData, truncateRecord } from "../helpers/corrupt.js";
import { blockFiles, temporaryFolder } from "../helpers/files.js";
import { spawnNextvlad } from "../helpers/nextvlad.js";
import { learnableVideo, prepareRun } from "../helpers/runs.js";
import { examined, examinedEnds, failsWith, goldenData, randomVideo, SMALL_SIZES, writeShards } from "../helpers/shards.js";

const SHAPE = { maxFrames: 300, featureNames: ["rgb", "audio"], featureSizes: SMALL_SIZES, numClasses: 10, labels: "required" } as const;

/** Checks the shards of one list or of several. */
function check(list: string | readonly string[], needs: Partial<Needs> = {}, limits: Partial<CheckLimits> = {}): Promise<Findings> {
  const lists = typeof list === "string" ? [list] : list;
  return preflight({ lists, shape: SHAPE, eigen: null, space: null, ...needs }, "/", { ...CHECK_LIMITS, ...limits });
}

/** The note about shards that were not opened within the time limit. */
function unread(read: number, shards: number, seconds: number): string {
  return `checked the first records of ${read} of ${shards} shards in ${seconds} s; the others are checked when they are read`;
}

/** Runs `nextvlad` with a config, and expects one error; returns its message, and whether TensorFlow was loaded. */
async function refusal(t: TestContext, args: readonly string[]): Promise<{ message: string; loadedTensorflow: boolean }> {
  const coverage = temporaryFolder(t);
  const ended = await spawnNextvlad(args, { env: { ...process.env, NODE_V8_COVERAGE: coverage } });
  assert.equal(ended.exitCode, 1, ended.stderr);
  assert.equal(ended.stderr.match(/^error/gm)?.length, 1, ended.stderr);
  const loadedTensorflow = readdirSync(coverage).some((name) => readFileSync(join(coverage, name), "utf8").includes("@tensorflow/"));
  return { message: ended.error, loadedTensorflow };
}

test("frames that look like floats cause a warning, although their size matches the config", async (t) => {
  const { examples } = JSON.parse(readFileSync(goldenData("float_features.json"), "utf8")) as { examples: Record<string, string> };
  const folder = temporaryFolder(t);
  for (const name of ["a", "b"]) {
    const record = encodeTfRecord(Buffer.from(examples["float32 as bytes"] as string, "base64"));
    writeFileSync(join(folder, `${name}.tfrecord`), record);
  }
  const found = await check(`${folder}/*.tfrecord`, { shape: { ...SHAPE, featureSizes: [96, 80] } });
  assert.deepEqual(found.problems, []);
  assert.equal(found.warnings.length, 1);
  assert.match(
    found.warnings[0] as string,
    /^the first record of \S+ \(and of 1 more\) looks like float32 values, but each byte is read as one feature; quantize .*--feature-dtype float32/,
  );
  const golden = await check(goldenData("train0000.tfrecord"), { shape: { ...SHAPE, featureSizes: [1024, 128], numClasses: 50 } });
  assert.deepEqual(golden.warnings, []);
});

describe("preflight", { concurrency: 2 }, () => {
  test("train reports all problems at once, before it loads TensorFlow", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder);
    writeFileSync(join(folder, "train0.tfrecord"), "<html>not found, and this page is what came instead of it</html>");
    writeFileSync(join(folder, "validate.list"), "validate0.tfrecord\nnowhere.tfrecord\n");
    await writeShard(join(folder, "validate0.tfrecord"), [randomVideo(1)]);
    writeFileSync(join(folder, "file"), "");
    const args = ["train", "--config", config, "--save-dir", join(folder, "file/out"), "--set", "MODEL.eigen_file=nowhere.npy"];
    const { message, loadedTensorflow } = await refusal(t, args);
    assert.match(message, /^the run cannot start: 5 problems: \(1\) /);
    for (const part of [
      /\(\d\) \S*file\/out: cannot write/,
      /\(\d\) \S*validate\.list: 1 of the list's 2 files not found: nowhere\.tfrecord/,
      /\(\d\) \S*train0\.tfrecord, byte 0: this is a text file/,
      /\(\d\) \S*validate0\.tfrecord, record 0, .*: the feature size of rgb does not match the model \(expected 16 bytes per frame, found 6\)/,
      /\(\d\) nowhere\.npy: file not found/,
    ]) {
      assert.match(message, part);
    }
    assert.equal(loadedTensorflow, false);
  });

  test("train reports the disk space that its snapshots need, and the free space", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder);
    const { message, loadedTensorflow } = await refusal(t, [
      ...["train", "--config", config, "--save-dir", join(folder, "out"), "--epoch", "7"],
      ...["--set", "MODEL.hidden_size=100000000", "--set", "TRAIN.max_iter=700000"],
    ]);
    assert.match(
      message,
      /out: not enough disk space for the run's snapshots \(expected [\d.e+]+ GB for 7 of [\d.e+]+ GB each, found [\d.e+]+ GB\)/,
    );
    assert.equal(loadedTensorflow, false);
    assert.equal(existsSync(join(folder, "out")), false);
  });

  test("the space of snapshots that will be removed counts as free", async (t) => {
    const folder = temporaryFolder(t);
    const { MODEL: model } = buildConfig({ MODEL: null }, "test");
    // A full-size snapshot has 1.07 GB.
    const need = { directory: folder, model, ema: false, snapshots: 1 + Math.ceil(((await freeBytes(folder)) ?? 0) / 1e9) };
    mkdirSync(join(folder, "NEXTVLAD_step1"));
    writeFileSync(join(folder, "NEXTVLAD_step1", "weights.safetensors"), "");
    // Takes no room by itself.
    truncateSync(join(folder, "NEXTVLAD_step1", "weights.safetensors"), need.snapshots * 2e8 + 4e9);
    await failsWith(requireSpace({ ...need, reusable: [] }), "FILE_UNWRITABLE", { file: folder });
    await requireSpace({ ...need, reusable: ["NEXTVLAD_step1"] });
  });

  test("eval requires labels in range, infer does not; a single problem is not listed as several", async (t) => {
    const folder = temporaryFolder(t);
    const config = await prepareRun(folder);
    await writeShard(join(folder, "validate0.tfrecord"), [{ ...learnableVideo(1), labels: Int32Array.of(77) }]);
    // Weights of another model: opened before the shards are checked, and compared with the model after that.
    const header = JSON.stringify({ logits_clf_bias: { dtype: "F32", shape: [1], data_offsets: [0, 4] } });
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    writeFileSync(join(folder, "other.safetensors"), Buffer.concat([length, Buffer.from(header), Buffer.alloc(4)]));
    const flags = ["--config", config, "--weights", join(folder, "other.safetensors"), "--save-dir", join(folder, "out")];
    const { message } = await refusal(t, ["eval", ...flags]);
    assert.match(message, /^\S*validate0\.tfrecord, record 0, .*: a label is not one of the model's classes \(expected 0 to 5, found 77\)/);
    assert.match((await refusal(t, ["infer", ...flags])).message, /other\.safetensors: .* do not match the model/);
  });

  test("the same problem in many shards is reported once", async (t) => {
    const folder = temporaryFolder(t);
    const shards = Array.from({ length: 30 }, (_, i) => join(folder, `s${String(i).padStart(2, "0")}.tfrecord`));
    for (const shard of shards) await writeShard(shard, [{ ...randomVideo(3), labels: Int32Array.of(1) }]);
    const { problems } = await check(join(folder, "*.tfrecord"), { shape: { ...SHAPE, featureSizes: [6, 4] } });
    assert.equal(problems.length, 30);
    const places = [0, 1, 2].map((i) => `${shards[i]}, record 0, byte 12, video video3`).join("; ");
    assert.equal(
      joinProblems(problems)?.message,
      `the feature size of audio does not match the model (expected 4 bytes per frame, found 3), 30 times: ${places}; and 27 more. ` +
        "Set MODEL.audio_feature_size to 3, or use shards made for this model.",
    );
  });

  test("shards of every kind are checked, only their first records' videos, and only within the time limit", async () => {
    const names = ["train0000.tfrecord", "train0000.tfrecord.gz", "train0000.tfrecord.zlib", "feat_p2_bytes.pkl", "feat_p4_str.pkl"];
    const shape = { ...SHAPE, featureSizes: [1024, 128], numClasses: 4 } as const;
    const { problems, notes } = await check(names.map(goldenData), { shape });
    assert.deepEqual([problems.map(({ message }) => message), notes], [[], []]);
    const late = await check(names.map(goldenData), { shape }, { shardsMs: 0 });
    assert.deepEqual([late.problems, late.notes], [[], [unread(0, 5, 0)]]);
  });

  test("empty shards, repeated shards and segment labels cause one warning each; a list with only empty shards is a problem", async (t) => {
    const folder = temporaryFolder(t);
    const at = (name: string): string => join(folder, name);
    const segments = encodeSequenceExample({
      context: { id: Buffer.from("x"), labels: [1], segment_labels: [1, 2], segment_start_times: [5, 10] },
      frameLists: [
        { name: "rgb", frameBytes: 6, data: new Uint8Array(6) },
        { name: "audio", frameBytes: 3, data: new Uint8Array(3) },
      ],
    });
    writeFileSync(at("full.tfrecord"), encodeTfRecord(segments));
    const empty = ["e0", "e1", "e2", "e3", "e4"].map((name) => at(`${name}.tfrecord`));
    for (const [i, path] of empty.entries()) writeFileSync(path, [Buffer.alloc(0), gzipSync(""), deflateSync("")][i % 3] as Buffer);
    writeFileSync(at("empty.list"), empty.join("\n"));
    writeFileSync(at("all.list"), [at("full.tfrecord"), ...empty, at("full.tfrecord"), empty[0]].join("\n"));
    const found = await check(at("all.list"));
    assert.deepEqual(found.problems, []);
    assert.deepEqual(found.warnings, [
      `${at("all.list")} lists 2 shards more than once: ${at("full.tfrecord")} 2 times, ${empty[0]} 2 times; each repetition is read again`,
      `5 of 6 shards are empty (0 records): ${empty.slice(0, 3).join(", ")} and 2 more`,
      "segment labels (segment_labels, YouTube-8M 2019) in 1 shard are not used: video-level labels are",
    ]);
    const listed = [at("full.tfrecord"), ...empty, at("full.tfrecord"), empty[0] as string];
    assert.deepEqual(found.lists, [await Promise.all(listed.map(examinedEnds))]);
    for (const onCorrupt of ["error", "skip-record"] as const) {
      const { problems } = await check(at("empty.list"), { onCorrupt });
      assert.deepEqual(
        problems.map(({ code, message }) => [code, message.split(". ")[0]]),
        [["TOO_FEW_VIDEOS", `${at("empty.list")}: all 5 shards are empty: there are no records`]],
      );
    }
  });

  test("a file of another type is a problem under every policy; a pipe that two splits name is read once", async (t) => {
    const folder = temporaryFolder(t);
    await writeShard(join(folder, "good.tfrecord"), [{ ...randomVideo(3), labels: Int32Array.of(1) }]);
    writeFileSync(join(folder, "zip.tfrecord"), Buffer.concat([Buffer.from("504b0304", "hex"), Buffer.alloc(400, 7)]));
    for (const onCorrupt of ["error", "skip-record", "skip-shard"] as const) {
      const found = await check(join(folder, "*.tfrecord"), { onCorrupt });
      assert.deepEqual([found.problems.map(({ code }) => code), found.notes], [["NOT_TFRECORD"], []]);
    }
    const pipe = join(folder, "pipe");
    execFileSync("mkfifo", [pipe]);
    const good = join(folder, "good.tfrecord");
    const [{ lists, problems }] = await Promise.all([check([pipe, pipe]), writeFile(pipe, `${good}\n`)]);
    assert.deepEqual([lists, problems], [Array(2).fill([await examinedEnds(good)]), []]);
  });

  test("a read that never returns does not block the check", async (t) => {
    const folder = temporaryFolder(t);
    for (const name of ["a", "b"]) await writeShard(join(folder, `${name}.tfrecord`), [randomVideo(3)]);
    await blockFiles(t, [join(folder, "b.tfrecord")]);
    const found = await check(join(folder, "*.tfrecord"), {}, { shardsMs: 500 });
    assert.deepEqual([found.problems, found.notes], [[], [unread(1, 2, 0.5)]]);
    const b = examined(join(folder, "b.tfrecord"));
    assert.deepEqual(found.lists, [[await examinedEnds(join(folder, "a.tfrecord")), b]]);
  });

  test("the checksum of a shard's ends is read from every kind of shard, even a corrupt one, within its time limit; a pipe is not opened", async (t) => {
    const folder = temporaryFolder(t);
    const { shards } = await writeShards(folder, [9]);
    corruptData(shards[0] as string, 0);
    const files = [...shards, ...["train0000.tfrecord", "train0000.tfrecord.gz", "feat_p2_bytes.pkl"].map(goldenData)];
    const pipe = join(folder, "pipe.tfrecord");
    execFileSync("mkfifo", [pipe]);
    const found = await check([...files, pipe]);
    assert.deepEqual(found.lists.flat(), [...(await Promise.all(files.map(examinedEnds))), examined(pipe)]);
    assert.deepEqual((await check(files, {}, { endsMs: 0 })).lists.flat(), files.map(examined));
  });

  test("corrupt data is a problem unless the policy skips it; labels out of range always are", async (t) => {
    const folder = temporaryFolder(t);
    const [damaged, other] = ["a.tfrecord", "b.tfrecord"].map((name) => join(folder, name)) as [string, string];
    await writeShard(damaged, [randomVideo(3)]);
    await writeShard(other, [{ ...randomVideo(3), labels: Int32Array.of(10) }]);
    corruptData(damaged, 0);
    for (const onCorrupt of ["error", "skip-record", "skip-shard"] as const) {
      const { problems, notes } = await check(join(folder, "*.tfrecord"), { onCorrupt });
      const codes = problems.map(({ code }) => code);
      assert.deepEqual(codes, onCorrupt === "error" ? ["CORRUPT_RECORD", "BAD_LABELS"] : ["BAD_LABELS"]);
      assert.equal(notes.length, onCorrupt === "error" ? 0 : 1);
      assert.match(notes.join(), onCorrupt === "error" ? /^$/ : /^corrupt, skipped because of on_corrupt: \S+a\.tfrecord, record 0, /);
    }
  });

  test("a truncated shard is a problem, or a note if the policy skips it, within the time limit for record headers", async (t) => {
    const folder = temporaryFolder(t);
    const { shards } = await writeShards(folder, [9, 9, 9]);
    truncateRecord(shards[1] as string, 7);
    const find = (onCorrupt: CorruptPolicy) => check(join(folder, "*.tfrecord"), { shape: { ...SHAPE, labels: "optional" }, onCorrupt });
    const [problem, ...others] = (await find("error")).problems;
    assert.deepEqual(others, []);
    assert.match(
      problem?.message ?? "",
      /shard001\.tfrecord, record 7, .*middle of a record.*truncated; or skip corrupt records with --on-corrupt skip-record\.$/,
    );
    const { problems, notes } = await find("skip-record");
    assert.deepEqual(problems, []);
    assert.match(notes.join(), /^corrupt, skipped because of on_corrupt: \S+shard001\.tfrecord, record 7, /);
    const late = await check(shards, { shape: { ...SHAPE, labels: "optional" } }, { headersMs: 0 });
    const note = "checked the record headers of 0 of 3 shards in 0 s; the others are checked when they are read";
    assert.deepEqual([late.problems, late.notes], [[], [note]]);
  });

  test("a first record longer than one read is read to its end", async (t) => {
    const path = join(temporaryFolder(t), "long.tfrecord");
    const frames = 300;
    const [rgb, audio] = [new Uint8Array(frames * 4096), new Uint8Array(frames * 128)];
    await writeShard(path, [{ id: "long", frames, rgb, audio, labels: Int32Array.of(1) }]);
    const shape = { ...SHAPE, featureSizes: [4096, 128] as const };
    assert.deepEqual((await check(path, { shape })).problems, []);
    const bytes = readFileSync(path);
    bytes[1_000_000] = 1;
    writeFileSync(path, bytes);
    assert.deepEqual(
      (await check(path, { shape })).problems.map(({ code }) => code),
      ["CORRUPT_RECORD"],
    );
  });
});
