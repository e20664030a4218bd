import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";
import { deflateSync, gzipSync } from "node:zlib";
import { writeShard } from "../../src/data/shard-writer.js";
import { encodeSequenceExample } from "../../src/formats/sequence-example-encoder.js";
import { encodeTfRecord } from "../../src/formats/tfrecord.js";
import { type Inspection, inspectShard } from "../../src/inspection/inspect.js";
import { formatInspection } from "../../src/inspection/inspect-text.js";
import { compiled, runNextvlad } from "../commands/nextvlad.js";
import { learnableVideo } from "../helpers/runs.js";
import { goldenData, goldenVideos, temporaryFolder } from "../helpers/shards.js";

async function inspect(shard: string): Promise<{ found: Inspection; exitCode: number | null }> {
  const { stdout, stderr, exitCode } = await runNextvlad(["inspect", shard, "--json"]);
  assert.equal(stderr, "");
  return { found: JSON.parse(stdout) as Inspection, exitCode };
}

/** Mean and standard deviation as they are defined. */
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
    test(`${name} is what numpy read from it`, async () => {
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
        const told = found.features[feature];
        const [mean, deviation] = moments(bytes);
        assert.deepEqual([told?.bytes, told?.frame_bytes], [bytes.length, { [size]: 4 }]);
        // Sums of at most 30,720 bytes: doubles differ in their last places only, by the order of adding.
        assert.ok(Math.abs((told?.mean ?? 0) - mean) < 1e-9 && Math.abs((told?.standard_deviation ?? 0) - deviation) < 1e-9);
        assert.deepEqual([told?.min, told?.max], [Math.min(...bytes), Math.max(...bytes)]);
        const counts = new Array<number>(256).fill(0);
        for (const byte of bytes) counts[byte] = (counts[byte] ?? 0) + 1;
        assert.deepEqual(told?.histogram, counts);
      }
      const { most_frequent, ...labels } = found.labels;
      assert.deepEqual(labels, { videos_with_labels: 3, labels: 7, classes: 7, min: 0, max: 49 });
      assert.deepEqual(
        most_frequent,
        [0, 2, 3, 5, 8, 17, 49].map((label) => ({ label, videos: 1 })),
      );
    });
  }

  test("a video-level shard is called one", async (t) => {
    const path = join(temporaryFolder(t), "video-level.tfrecord");
    const context = { id: Buffer.from("x"), labels: [3], mean_rgb: new Uint8Array(8), mean_audio: new Uint8Array(4) };
    writeFileSync(path, encodeTfRecord(encodeSequenceExample({ context, frameLists: [] })));
    const { found, exitCode } = await inspect(path);
    assert.deepEqual([exitCode, found.levels, found.frames], [0, { frame: 0, video: 1, other: 0 }, null]);
    assert.deepEqual(Object.keys(found.context).sort(), ["id", "labels", "mean_audio", "mean_rgb"]);
    assert.match((await runNextvlad(["inspect", path])).stdout, /^kind +TFRecord, not compressed; video-level Examples/m);
  });

  test("an empty shard holds 0 records; segment labels are counted", async (t) => {
    const path = join(temporaryFolder(t), "a.tfrecord");
    for (const content of [Buffer.alloc(0), gzipSync(""), deflateSync("")]) {
      writeFileSync(path, content);
      const found = await inspectShard(path);
      assert.deepEqual([found.records, found.problems, found.read_to_end], [0, 0, true]);
      assert.match(formatInspection(found), /^kind .*; empty: 0 records$/m);
    }
    const context = { id: Buffer.from("x"), labels: [3], segment_labels: [8, 9, 8], segment_start_times: [0, 5, 10] };
    const frameLists = [{ name: "rgb", frameBytes: 4, data: new Uint8Array(4) }];
    writeFileSync(path, encodeTfRecord(encodeSequenceExample({ context, frameLists })));
    const found = await inspectShard(path);
    assert.deepEqual(found.segment_labels, { videos: 1, segments: 3, classes: 2 });
    assert.match(formatInspection(found), /^segments +3 labelled segments of 2 classes in 1 of 1 records \(YouTube-8M 2019\); no command/m);
  });

  test("labels are ordered by how often they come", async (t) => {
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

  test("what is damaged is told beside what is whole, with exit code 1", async (t) => {
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

  test("what is no shard is an error", async (t) => {
    const path = join(temporaryFolder(t), "page.tfrecord");
    writeFileSync(path, "<html>a page, and no shard; long enough to be told from a damaged length</html>");
    const ended = await runNextvlad(["inspect", path]);
    assert.deepEqual([ended.exitCode, ended.stdout], [1, ""]);
    assert.match(ended.stderr, /^nextvlad: error: .*page\.tfrecord.*: this is a text file, not a TFRecord file/);
  });

  test("a pipe is refused before it is waited for", async (t) => {
    const path = join(temporaryFolder(t), "pipe.tfrecord");
    execFileSync("mkfifo", [path]);
    for (const command of ["inspect", "verify"]) {
      const ended = await runNextvlad([command, path]);
      assert.equal(ended.exitCode, 1);
      assert.match(ended.stdout + ended.stderr, /pipe\.tfrecord: cannot read it: it is a pipe, not a file/);
    }
  });

  test("a report that finds its place full is an error", { skip: !existsSync("/dev/full") }, async (t) => {
    const path = join(temporaryFolder(t), "some.tfrecord");
    await writeShard(path, [learnableVideo(0)]);
    const full = openSync("/dev/full", "w");
    const child = spawn(process.execPath, [compiled("nextvlad.cjs"), "inspect", path], { stdio: ["ignore", full, "pipe"] });
    closeSync(full);
    const [stderr, [exitCode]] = await Promise.all([text(child.stderr as Readable), once(child, "close")]);
    assert.equal(exitCode, 1);
    assert.match(stderr, /^nextvlad: error: standard output: cannot write it: no space left on the device\. Make room there/);
  });
});
