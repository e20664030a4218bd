import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, cpSync, existsSync, openSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { describe, type TestContext, test } from "node:test";
import { deflateSync, gzipSync } from "node:zlib";
import { writeShard } from "../../src/data/shard-writer.js";
import { encodeTfRecord } from "../../src/formats/containers/tfrecord.js";
import { encodeSequenceExample } from "../../src/formats/protobuf/sequence-example.js";
import { encodeSafetensors } from "../../src/formats/tensors/safetensors.js";
import { formatShard, formatWeights } from "../../src/inspection/inspect-report.js";
import { inspectShard, type ShardInspection } from "../../src/inspection/inspect-shard.js";
import { inspectWeights, type WeightInspection } from "../../src/inspection/inspect-weights.js";
import { temporaryFolder } from "../helpers/files.js";
import { compiled, runNextvlad } from "../helpers/nextvlad.js";
import { learnableVideo } from "../helpers/runs.js";
import { goldenData, goldenVideos } from "../helpers/shards.js";

async function inspect(shard: string): Promise<{ found: ShardInspection; exitCode: number | null }> {
  const { stdout, stderr, exitCode } = await runNextvlad(["inspect", shard, "--json"]);
  assert.equal(stderr, "");
  return { found: JSON.parse(stdout) as ShardInspection, exitCode };
}

/** Returns the mean and the standard deviation, by their definitions. */
function moments(bytes: readonly number[]): [number, number] {
  const mean = bytes.reduce((sum, byte) => sum + byte, 0) / bytes.length;
  return [mean, Math.sqrt(bytes.reduce((sum, byte) => sum + (byte - mean) ** 2, 0) / bytes.length)];
}

describe("inspect", { concurrency: 2 }, () => {
  for (const [name, container, compression] of [
    ["train0000.tfrecord", "TFRecord", "none"],
    ["train0000.tfrecord.gz", "TFRecord", "gzip"],
    ["train0000.tfrecord.zlib", "TFRecord", "zlib"],
    ["feat_p2_bytes.pkl", "pickle", "none"],
  ] as const) {
    test(`${name}: the statistics match those of the videos that numpy read`, async () => {
      const { found, exitCode } = await inspect(goldenData(name));
      const videos = goldenVideos();
      assert.deepEqual(
        [exitCode, found.container, found.compression, found.problems, found.records],
        [0, container, compression, 0, videos.length],
      );
      assert.deepEqual(found.levels, { frame: 4, video: 0, other: 0 });
      assert.deepEqual(
        found.first_ids,
        videos.slice(0, 3).map(({ id }) => id),
      );
      const { frames } = found;
      assert.deepEqual([frames?.min, frames?.max, frames?.median, frames?.total], [1, 12, 8.5, 30]);
      assert.equal(
        frames?.histogram.reduce((sum, bin) => sum + bin.videos, 0),
        4,
      );
      for (const [feature, size] of [
        ["rgb", 1024],
        ["audio", 128],
      ] as const) {
        const bytes = videos.flatMap((video) => Array.from(video[feature]));
        const statistics = found.features[feature];
        const [mean, deviation] = moments(bytes);
        assert.deepEqual([statistics?.bytes, statistics?.frame_bytes], [bytes.length, { [size]: 4 }]);
        // Sums of at most 30,720 bytes: float64 rounding depends on the order of the additions.
        assert.ok(Math.abs((statistics?.mean ?? 0) - mean) < 1e-9 && Math.abs((statistics?.standard_deviation ?? 0) - deviation) < 1e-9);
        assert.deepEqual([statistics?.min, statistics?.max], [Math.min(...bytes), Math.max(...bytes)]);
        const counts = new Array<number>(256).fill(0);
        for (const byte of bytes) counts[byte] = (counts[byte] ?? 0) + 1;
        assert.deepEqual(statistics?.histogram, counts);
      }
      const { most_frequent, ...labels } = found.labels;
      assert.deepEqual(labels, { videos_with_labels: 3, labels: 7, classes: 7, min: 0, max: 49 });
      assert.deepEqual(
        most_frequent,
        [0, 2, 3, 5, 8, 17, 49].map((label) => ({ label, videos: 1 })),
      );
    });
  }

  test("a video-level shard is recognized", async (t) => {
    const path = join(temporaryFolder(t), "video-level.tfrecord");
    const context = { id: Buffer.from("x"), labels: [3], mean_rgb: new Uint8Array(8), mean_audio: new Uint8Array(4) };
    writeFileSync(path, encodeTfRecord(encodeSequenceExample({ context, frameLists: [] })));
    const { found, exitCode } = await inspect(path);
    assert.deepEqual([exitCode, found.levels, found.frames], [0, { frame: 0, video: 1, other: 0 }, null]);
    assert.deepEqual(Object.keys(found.context).sort(), ["id", "labels", "mean_audio", "mean_rgb"]);
    assert.match((await runNextvlad(["inspect", path])).stdout, /^kind +TFRecord, not compressed; video-level Examples/m);
  });

  test("IDs of any length are compared completely", async (t) => {
    const path = join(temporaryFolder(t), "long.tfrecord");
    const ids = [256, 257, 256, 256].map((length, i) => `${"x".repeat(length - 1)}${i === 3 ? "y" : "x"}`);
    await writeShard(
      path,
      ids.map((id) => ({ ...learnableVideo(0), id })),
    );
    assert.equal((await inspectShard(path)).repeated_ids, 1);
  });

  test("an empty shard has 0 records; segment labels are counted", async (t) => {
    const path = join(temporaryFolder(t), "a.tfrecord");
    for (const content of [Buffer.alloc(0), gzipSync(""), deflateSync("")]) {
      writeFileSync(path, content);
      const found = await inspectShard(path);
      assert.deepEqual([found.records, found.problems, found.read_to_end], [0, 0, true]);
      assert.match(formatShard(found).join("\n"), /^kind .*; empty: 0 records$/m);
    }
    const context = { id: Buffer.from("x"), labels: [3], segment_labels: [8, 9, 8], segment_start_times: [0, 5, 10] };
    const frameLists = [{ name: "rgb", frameBytes: 4, data: new Uint8Array(4) }];
    writeFileSync(path, encodeTfRecord(encodeSequenceExample({ context, frameLists })));
    const found = await inspectShard(path);
    assert.deepEqual(found.segment_labels, { videos: 1, segments: 3, classes: 2 });
    assert.match(
      formatShard(found).join("\n"),
      /^segments +3 labeled segments of 2 classes in 1 of 1 records \(YouTube-8M 2019\); read instead of the video-level labels with --segments$/m,
    );
  });

  test("labels are sorted by frequency", async (t) => {
    const path = join(temporaryFolder(t), "labels.tfrecord");
    const record = (labels: number[]) =>
      encodeTfRecord(encodeSequenceExample({ context: { id: Buffer.from("x"), labels }, frameLists: [] }));
    writeFileSync(path, Buffer.concat([[1, 2], [2], [7, 2], [7, 7], []].map(record)));
    const { found } = await inspect(path);
    assert.deepEqual(found.labels.most_frequent, [
      { label: 2, videos: 3 },
      { label: 7, videos: 2 },
      { label: 1, videos: 1 },
    ]);
    assert.deepEqual([found.labels.videos_with_labels, found.repeated_ids], [4, 4]);
  });

  test("corrupt and valid records are both reported, with exit code 1", async (t) => {
    const path = join(temporaryFolder(t), "damaged.tfrecord");
    const shard = readFileSync(goldenData("train0000.tfrecord"));
    shard[shard.length - 5000] = (shard[shard.length - 5000] as number) ^ 1;
    writeFileSync(path, shard.subarray(0, -1));
    const { found, exitCode } = await inspect(path);
    assert.deepEqual([exitCode, found.read_to_end, found.problems, found.features.rgb?.videos], [1, false, 1, 3]);
    writeFileSync(path, shard);
    const whole = await inspect(path);
    assert.deepEqual([whole.exitCode, whole.found.read_to_end, whole.found.problems, whole.found.records], [1, true, 1, 4]);
    const text = await runNextvlad(["inspect", path]);
    assert.match(text.stdout, /^problems +1\n.*damaged\.tfrecord, record 3, byte \d+: the checksum/m);
  });

  test("a file that is not a shard is an error", async (t) => {
    const path = join(temporaryFolder(t), "page.tfrecord");
    writeFileSync(path, "<html>a web page that is too long to be mistaken for a corrupt length</html>");
    const ended = await runNextvlad(["inspect", path]);
    assert.deepEqual([ended.exitCode, ended.stdout], [1, ""]);
    assert.match(ended.error, /page\.tfrecord.*: this is a text file, not a TFRecord file/);
  });

  test("a pipe is rejected without waiting for a writer", async (t) => {
    const path = join(temporaryFolder(t), "pipe.tfrecord");
    execFileSync("mkfifo", [path]);
    for (const command of ["inspect", "verify"]) {
      const ended = await runNextvlad([command, path]);
      assert.equal(ended.exitCode, 1);
      assert.match(ended.stdout + ended.error, /pipe\.tfrecord: cannot read: it is a pipe, not a file/);
    }
  });

  test("a report that cannot be written because the disk is full is an error", { skip: !existsSync("/dev/full") }, async (t) => {
    const path = join(temporaryFolder(t), "some.tfrecord");
    await writeShard(path, [learnableVideo(0)]);
    const full = openSync("/dev/full", "w");
    const child = spawn(process.execPath, [compiled("nextvlad.cjs"), "inspect", path], { stdio: ["ignore", full, "pipe"] });
    closeSync(full);
    const [stderr, [exitCode]] = await Promise.all([text(child.stderr as Readable), once(child, "close")]);
    assert.equal(exitCode, 1);
    assert.match(
      stderr,
      /^error\[FILE_UNWRITABLE\]: cannot write: no space left on the device\n {2}--> standard output\n {2}help: free disk space/,
    );
  });
});

describe("inspectShard reports names, types, sizes, IDs and labels", () => {
  const pieces = (...values: Uint8Array[]): Buffer => Buffer.concat(values);
  /** A field of Protocol Buffers, all lengths below 128. */
  const field = (number: number, data: Uint8Array): Buffer => pieces(Buffer.of(8 * number + 2, data.length), data);
  const floats = (...values: number[]): Buffer => field(2, field(1, Buffer.from(Float32Array.from(values).buffer)));
  const ints = (...values: number[]): Buffer => field(3, field(1, Buffer.from(values)));
  const bytes = (...values: string[]): Buffer => field(1, pieces(...values.map((value) => field(1, Buffer.from(value)))));
  const entry = (key: string, value: Uint8Array): Buffer => field(1, pieces(field(1, Buffer.from(key)), field(2, value)));
  const list = (key: string, ...frames: Buffer[]): Buffer => entry(key, pieces(...frames.map((frame) => field(1, frame))));
  const context = pieces(entry("id", bytes("AbCd")), entry("labels", ints(3)));
  const example = (...lists: Buffer[]): Buffer => pieces(field(1, context), field(2, pieces(...lists)));

  async function inspectRecord(t: TestContext, record: Uint8Array): Promise<ShardInspection> {
    const path = join(temporaryFolder(t), "a.tfrecord");
    writeFileSync(path, encodeTfRecord(record));
    const found = await inspectShard(path);
    assert.deepEqual([found.problems, found.first_ids, found.labels.classes, found.levels.frame], [0, ["AbCd"], 1, 1]);
    return found;
  }

  test("for a list of numbers beside rgb and audio, packed or not", async (t) => {
    // A number that is not packed: field 1, a varint.
    const unpacked = field(3, Buffer.of(8, 100));
    const lists = [list("rgb", bytes("rgb"), bytes("rgb")), list("audio", bytes("a"), bytes("a")), list("time", ints(0, 1), unpacked)];
    const found = await inspectRecord(t, example(...lists));
    assert.deepEqual(found.lists.time, { videos: 1, types: { int64: 1 }, frames: { min: 2, max: 2 }, sizes: { min: 1, max: 2 } });
    const { rgb, audio, time } = found.features;
    assert.deepEqual([rgb?.frame_bytes, audio?.frame_bytes, time], [{ 3: 1 }, { 1: 1 }, undefined]);
    const text = formatShard(found).join("\n");
    assert.match(text, /^rgb +3 bytes per frame, 1 videos$/m);
    assert.match(text, /^time +int64, 1 to 2 values per frame, 2 frames, 1 videos$/m);
    assert.match(text, /^ids +AbCd$/m);
    assert.match(text, /^labels +1 of 1 records have labels$/m);
  });

  test("for lists of floats, and for a single SequenceExample in its own file", async (t) => {
    const unpacked = field(2, Buffer.of(13, 0, 0, 0, 0));
    const record = example(list("RGB/feature/floats", floats(1, 2), floats(3, 4)), list("AUDIO/feature/floats", unpacked));
    const found = await inspectRecord(t, record);
    const expected = { videos: 1, types: { float: 1 }, frames: { min: 2, max: 2 }, sizes: { min: 2, max: 2 } };
    assert.deepEqual(found.lists["RGB/feature/floats"], expected);
    assert.deepEqual(found.lists["AUDIO/feature/floats"]?.sizes, { min: 1, max: 1 });
    assert.deepEqual(found.unequal_lengths, { records: 1, first: { record: 0, rgb: 2, audio: 1 } });
    assert.match(
      formatShard(found).join("\n"),
      /^RGB\/feature\/floats\n +float, 2 values per frame, 2 frames, 1 videos; nextvlad convert quantizes/m,
    );
    const path = join(temporaryFolder(t), "features.pb");
    writeFileSync(path, record);
    const single = await inspectShard(path);
    assert.deepEqual([single.container, single.records, single.lists], ["SequenceExample", 1, found.lists]);
  });

  test("for frames of unequal size, of several values or of mixed types, and for rgb and audio of different length", async (t) => {
    const frameLists = [
      list("rgb", bytes("rgb"), bytes("rg")),
      list("audio", bytes("a", "b")),
      list("mix", bytes("a"), ints(1)),
      list("none"),
    ];
    const found = await inspectRecord(t, example(...frameLists));
    const lists = Object.entries(found.lists).map(([name, { types, sizes }]) => [name, Object.keys(types)[0], sizes.min, sizes.max]);
    const expected = [
      ["rgb", "bytes", 2, 3],
      ["audio", "bytes", 2, 2],
      ["mix", "mixed", 1, 1],
      ["none", "none", 0, 0],
    ];
    assert.deepEqual(lists, expected);
    assert.deepEqual(found.features, {});
    const text = "rgb and audio differ in length in 1 of 1 records: record 0 has 2 frames of rgb and 1 of audio";
    assert.match(formatShard(found).join("\n"), new RegExp(`^lengths +${text}$`, "m"));
  });

  test("problems are grouped by kind", async (t) => {
    const path = join(temporaryFolder(t), "a.tfrecord");
    writeFileSync(path, pieces(...Array.from({ length: 30 }, () => encodeTfRecord(Buffer.of(12)))));
    const found = await inspectShard(path);
    assert.deepEqual([found.problems, found.listed.length, found.unlisted], [30, 1, 0]);
    const message =
      /a\.tfrecord: not a tf\.train\.SequenceExample: .*, 30 times: record 0, byte \d+; record 1, byte \d+; record 2, byte \d+; and 27 more/;
    assert.match(found.listed[0] ?? "", message);
  });
});

describe("inspect of weights", () => {
  const compat = resolve("test/golden/compat/059705b");
  const rows = (text: string) => new Map(text.split("\n").map((line) => [line.slice(0, 12).trim(), line.slice(12)]));
  const sizes =
    "cluster_size 4, groups 4, expansion 2, hidden_size 16, gating_reduction 4, num_mixtures 1, video_feature_size 16, audio_feature_size 8";

  test("reports a snapshot's step, epoch, classes, sizes and config", async () => {
    const path = join(compat, "run/NEXTVLAD_step3");
    const { exitCode, stdout } = await runNextvlad(["inspect", path]);
    assert.equal(exitCode, 0);
    const { config, best: _, "written by": __, "": ___, ...shown } = Object.fromEntries(rows(stdout));
    assert.match(config ?? "", /drop_rate 0\.5/);
    assert.deepEqual(shown, {
      weights: path,
      kind: "a snapshot",
      step: "3",
      epoch: "1 finished, 1 steps of the next one; seed 0",
      model: "NEXTVLAD",
      classes: "6",
      sizes,
      parameters: "42 arrays, 3118 values",
      optimizer: "state included",
      problems: "none",
    });
    const json = await runNextvlad(["inspect", path, "--json"]);
    const { step, state, model } = JSON.parse(json.stdout) as WeightInspection;
    assert.deepEqual([step, state?.epoch, state?.step_in_epoch, model?.num_classes], [3, 1, 1, 6]);
  });

  test("reports the sizes of exported weights, and the step if they have one", async () => {
    for (const [name, form, step] of [
      ["exported.npz", "a .npz file", null],
      ["exported.safetensors", "a safetensors file", null],
      ["exported.pdparams", "Paddle's .pdparams and .pdopt", 4],
    ] as const) {
      const found = await inspectWeights(join(compat, name));
      assert.deepEqual([found.form, found.step, found.model?.num_classes, found.parameters, found.values], [form, step, 6, 42, 3118]);
      assert.deepEqual([rows(formatWeights(found).join("\n")).get("sizes"), found.problems], [sizes, []]);
    }
  });

  test("lists the arrays of another model, and reports a corrupt snapshot, with exit code 1", async (t) => {
    const folder = temporaryFolder(t);
    const other = join(folder, "other.safetensors");
    const tensor = { name: "conv.weight", dtype: "F32", shape: [2], data: new Float32Array(2) } as const;
    writeFileSync(other, Buffer.concat([...encodeSafetensors([tensor])]));
    const ended = await runNextvlad(["inspect", other]);
    assert.equal(ended.exitCode, 1);
    assert.match(ended.stdout, /^arrays +conv\.weight f4 \[2\]\nproblems +1\n.*other\.safetensors: cannot infer the model's sizes/m);
    cpSync(join(compat, "run/NEXTVLAD_epoch0"), join(folder, "snapshot"), { recursive: true });
    truncateSync(join(folder, "snapshot/optimizer.safetensors"), 1000);
    const damaged = await inspectWeights(join(folder, "snapshot"));
    assert.deepEqual([damaged.step, damaged.optimizer, damaged.problems.length], [2, false, 1]);
    assert.match(damaged.problems[0] ?? "", /optimizer\.safetensors/);
  });

  test("weights are recognized under any file name; for a file that is neither, the shard's error is reported", async (t) => {
    for (const name of ["exported.npz", "exported.safetensors", "exported.pdparams"]) {
      const copy = join(temporaryFolder(t), "weights");
      cpSync(join(compat, name), copy);
      assert.match((await runNextvlad(["inspect", copy])).stdout, /^classes +6$/m);
    }
    const path = join(temporaryFolder(t), "notes");
    writeFileSync(path, "neither a shard nor weights, but long enough to be one of them");
    const { exitCode, error } = await runNextvlad(["inspect", path]);
    assert.equal(exitCode, 1);
    assert.match(error, /: this is a text file, not a TFRecord file/);
  });
});
