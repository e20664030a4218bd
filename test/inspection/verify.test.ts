import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { encodeVideo } from "../../src/data/shard-writer.js";
import type { Video } from "../../src/data/video.js";
import { encodeTfRecord } from "../../src/formats/containers/tfrecord.js";
import { encodeSequenceExample } from "../../src/formats/protobuf/sequence-example.js";
import { verifyShards } from "../../src/inspection/verify.js";
import type { VerifyReport } from "../../src/inspection/verify-report.js";
import { temporaryFolder } from "../helpers/files.js";
import { compiled, repository, runNextvlad, runProgram, spawnNextvlad } from "../helpers/nextvlad.js";
import { examined, goldenData } from "../helpers/shards.js";

const SIZES = ["--set", "MODEL.video_feature_size=8", "--set", "MODEL.audio_feature_size=4", "--set", "MODEL.num_classes=10"];

function video(id: string, options: Partial<Video> = {}): Video {
  const frames = options.frames ?? 3;
  const [rgb, audio] = [new Uint8Array(frames * 8).fill(7), new Uint8Array(frames * 4).fill(9)];
  return { id, frames, rgb, audio, labels: Int32Array.of(1, 3), ...options };
}

const frame = (...records: Uint8Array[]): Buffer => Buffer.concat(records.map((record) => encodeTfRecord(record)));
const shardOf = (...ids: string[]): Buffer => frame(...ids.map((id) => encodeVideo(video(id))));

const UNLABELLED = encodeSequenceExample({
  context: { video_id: Buffer.from("unlabelled") },
  frameLists: [
    { name: "rgb", frameBytes: 8, data: new Uint8Array(8) },
    { name: "audio", frameBytes: 4, data: new Uint8Array(4) },
  ],
});

/** Flips a bit of the byte at `at`, which counts from the end if it is negative. */
function flip(shard: Buffer, at: number): Buffer {
  const index = at < 0 ? shard.length + at : at;
  shard[index] = (shard[index] as number) ^ 1;
  return shard;
}

/** Writes shards and their list, and verifies the list in another process. */
async function verify(t: TestContext, shards: Record<string, Uint8Array | string>, args: readonly string[] = []) {
  const folder = temporaryFolder(t);
  for (const [name, content] of Object.entries(shards)) writeFileSync(join(folder, name), content);
  const list = join(folder, "shards.list");
  writeFileSync(list, Object.keys(shards).join("\n"));
  const ended = await runNextvlad(["verify", list, "--json", ...SIZES, ...args]);
  const report = JSON.parse(ended.stdout) as VerifyReport;
  const files = new Map(report.files.map((file) => [basename(file.file), file]));
  const codes = (name: string): unknown[] => (files.get(name)?.listed ?? []).map(({ code, record }) => [code, record]);
  return { ended, report, files, codes, list };
}

describe("verify", { concurrency: 2 }, () => {
  test("valid shards have no problems, compressed or not, and their contents are counted", async (t) => {
    const { ended, report } = await verify(t, {
      "a.tfrecord": shardOf("v0", "v1"),
      "b.tfrecord": gzipSync(frame(encodeVideo(video("v2", { frames: 5, rgb: new Uint8Array(40), audio: new Uint8Array(20) })))),
      "c.tfrecord": frame(UNLABELLED),
    });
    assert.equal(ended.exitCode, 0, ended.stderr);
    const { shards, records, videos, frames, videos_without_labels, problems, stopped } = report;
    assert.deepEqual([shards, records, videos, frames, videos_without_labels, problems, stopped], [3, 4, 4, 12, 1, 0, false]);
    const counts = report.files.map((file) => [file.records, file.frames, file.state]);
    assert.deepEqual(counts, [
      [2, 6, "whole"],
      [1, 5, "whole"],
      [1, 1, "whole"],
    ]);
    assert.ok(report.files.every(({ size_bytes, checked_bytes }) => size_bytes === checked_bytes));
  });

  test("the golden shards, which TensorFlow and numpy wrote, have no problems", async () => {
    for (const name of ["train0000.tfrecord", "train0000.tfrecord.gz", "train0000.tfrecord.zlib", "feat_p2_bytes.pkl", "feat_p4_str.pkl"]) {
      const ended = await runNextvlad(["verify", goldenData(name)]);
      assert.equal(ended.exitCode, 0, ended.stdout);
      const counts = "shards: 1,\t4 records, 4 valid videos (1 without labels), 30 frames";
      assert.ok(ended.stdout.startsWith(`[VERIFY] verify finished. \t${counts}`) && ended.stdout.endsWith("\nno problems\n"), ended.stdout);
    }
  });

  test("reports every problem of every shard, and continues after each if possible", async (t) => {
    const odd = (id: string | null, { rgb = 16, audio = 8, labels = [1] }: { rgb?: number; audio?: number; labels?: number[] } = {}) =>
      encodeSequenceExample({
        context: { labels, ...(id === null ? {} : { id: Buffer.from(id) }) },
        frameLists: [
          { name: "rgb", frameBytes: rgb / 2, data: new Uint8Array(rgb) },
          { name: "audio", frameBytes: 4, data: new Uint8Array(audio) },
        ],
      });
    const recordBytes = shardOf("a0").length;
    const { ended, report, codes, files, list } = await verify(t, {
      "data.tfrecord": flip(flip(shardOf("d0", "d1", "d2", "d3"), recordBytes + 40), -20),
      "length.tfrecord": flip(shardOf("e0", "e1", "e2"), recordBytes + 1),
      "short.tfrecord": shardOf("s0", "s1", "s2").subarray(0, -7),
      "sizes.tfrecord": frame(encodeVideo(video("f0")), odd("f1", { rgb: 14 }), odd("f2", { audio: 12 }), encodeVideo(video("f3"))),
      "labels.tfrecord": frame(odd("l0", { labels: [10] }), odd("l1", { labels: [9] }), odd("l2", { labels: [-1] })),
      "message.tfrecord": frame(Buffer.from("not a message"), encodeVideo(video("m1")), odd(null)),
      "video-level.tfrecord": frame(
        encodeSequenceExample({ context: { id: Buffer.from("x"), mean_rgb: new Uint8Array(8) }, frameLists: [] }),
      ),
      "page.tfrecord": "<!DOCTYPE html><html><body>404 Not Found: this web page is longer than a record header</body></html>",
      "empty.tfrecord": "",
      "torn.tfrecord": gzipSync(shardOf("t0", "t1")).subarray(0, -12),
      "good.tfrecord": shardOf("g0", "g1"),
    });
    assert.equal(ended.exitCode, 1, ended.stderr);
    const found = Object.fromEntries([...files.keys()].map((name) => [name.replace(".tfrecord", ""), codes(name)]));
    assert.deepEqual(found, {
      data: [
        ["CORRUPT_RECORD", 1],
        ["CORRUPT_RECORD", 3],
      ],
      length: [["CORRUPT_RECORD", 1]],
      short: [["CORRUPT_RECORD", 2]],
      sizes: [
        ["BAD_VIDEO", 1],
        ["BAD_VIDEO", 2],
      ],
      labels: [
        ["BAD_LABELS", 0],
        ["BAD_LABELS", 2],
      ],
      message: [
        ["BAD_FORMAT", 0],
        ["BAD_VIDEO", 2],
      ],
      "video-level": [["BAD_VIDEO", 0]],
      page: [["NOT_TFRECORD", null]],
      empty: [],
      torn: [["CORRUPT_RECORD", 1]],
      good: [],
    });
    const counts = (name: string): unknown => [files.get(name)?.records, files.get(name)?.videos, files.get(name)?.state];
    assert.deepEqual(counts("data.tfrecord"), [4, 2, "whole"]);
    assert.deepEqual(counts("length.tfrecord"), [1, 1, "broken"]);
    assert.deepEqual(counts("short.tfrecord"), [2, 2, "broken"]);
    assert.deepEqual(counts("sizes.tfrecord"), [4, 2, "whole"]);
    assert.deepEqual(report.problems_by_code, { CORRUPT_RECORD: 5, BAD_VIDEO: 4, BAD_LABELS: 2, BAD_FORMAT: 1, NOT_TFRECORD: 1 });
    assert.deepEqual([report.problems, report.shards_with_problems, report.records_with_repeated_id], [13, 9, 0]);
    const [first] = files.get("data.tfrecord")?.listed ?? [];
    assert.equal(first?.byte_offset, recordBytes);
    assert.match(
      first?.message ?? "",
      /data\.tfrecord, record 1, byte \d+: the checksum of the record's data does not match \(expected 0x/,
    );

    const text = await runNextvlad(["verify", list, ...SIZES]);
    assert.equal(text.exitCode, 1);
    assert.match(text.stdout, /^problems: 13 \(.*CORRUPT_RECORD 5.*\), in 9 of 11 shards$/m);
    assert.match(
      text.stdout,
      /^3 shards could not be read to the end: \S+length\.tfrecord \(after 1 record\); \S+short\.tfrecord \(after 2 /m,
    );
    assert.match(
      text.stdout,
      /data\.tfrecord: the checksum of the record's data does not match, 2 times: record 1, byte \d+ \(exp.*; record 3, /,
    );
  });

  test("warns about empty and repeated shards and segment labels, in a list from a pipe; only empty shards are a problem", async (t) => {
    const folder = temporaryFolder(t);
    const segmented = encodeSequenceExample({
      context: { id: Buffer.from("s"), labels: [1], segment_labels: [4, 5, 4] },
      frameLists: [
        { name: "rgb", frameBytes: 8, data: new Uint8Array(8) },
        { name: "audio", frameBytes: 4, data: new Uint8Array(4) },
      ],
    });
    writeFileSync(join(folder, "a.tfrecord"), frame(segmented, encodeVideo(video("v"))));
    for (const name of ["e1", "e2"]) writeFileSync(join(folder, `${name}.tfrecord`), "");
    const run = (command: string) => {
      const nextvlad = [process.execPath, compiled("nextvlad.cjs")].map((word) => `'${word}'`).join(" ");
      return runProgram("bash", ["-c", command.replaceAll("nextvlad", nextvlad)], { cwd: folder });
    };
    const sizes = SIZES.join(" ");
    const [text, json, empty] = await Promise.all([
      run(`printf '%s\\n' a.tfrecord e1.tfrecord a.tfrecord e2.tfrecord a.tfrecord | nextvlad verify - ${sizes}`),
      run(`nextvlad verify <(ls *.tfrecord; echo a.tfrecord) --json ${sizes}`),
      run(`nextvlad verify 'e*.tfrecord' ${sizes}`),
    ]);
    assert.equal(text.exitCode, 0, text.stderr);
    for (const line of [
      `warning: - lists a shard more than once: ${folder}/a.tfrecord 3 times; verify checks each once; other commands read each repetition again`,
      `warning: 2 of 3 shards are empty (0 records): ${folder}/e1.tfrecord, ${folder}/e2.tfrecord`,
      "warning: segment labels (segment_labels, YouTube-8M 2019) in 1 video are not used: video-level labels are",
      "no problems",
    ]) {
      assert.ok(text.stdout.split("\n").includes(line), `${line} in: ${text.stdout}`);
    }
    const { shards, videos, problems, empty_shards, repeated_shards, videos_with_segment_labels } = JSON.parse(json.stdout) as VerifyReport;
    assert.deepEqual([shards, videos, problems, empty_shards.length, videos_with_segment_labels], [3, 2, 0, 2, 1]);
    assert.deepEqual(repeated_shards, [{ file: `${folder}/a.tfrecord`, times: 2 }]);
    assert.equal(empty.exitCode, 1);
    assert.match(empty.stdout, /^e\*\.tfrecord: all 2 shards are empty: there are no records\./m);
  });

  test("reports repeated IDs within and across shards, with all their records, including invalid ones", async (t) => {
    const { ended, report } = await verify(t, {
      "a.tfrecord": shardOf("one", "two", "one"),
      "b.tfrecord": frame(encodeVideo(video("two", { labels: Int32Array.of(99) })), encodeVideo(video("three"))),
      "c.tfrecord": shardOf("four", "two"),
    });
    assert.equal(ended.exitCode, 1);
    const repeats = report.repeated_ids.map(({ id, records }) => [id, ...records.map(({ file, record }) => `${basename(file)} ${record}`)]);
    assert.deepEqual(repeats, [
      ["one", "a.tfrecord 0", "a.tfrecord 2"],
      ["two", "a.tfrecord 1", "b.tfrecord 0", "c.tfrecord 1"],
    ]);
    assert.deepEqual([report.records_with_repeated_id, report.problems], [3, 4]);
  });

  test("record indices are correct after a record that cannot be read", async (t) => {
    const recordBytes = shardOf("x").length;
    const { report } = await verify(t, { "a.tfrecord": flip(shardOf("p", "q", "r"), recordBytes + 40), "b.tfrecord": shardOf("r") });
    assert.deepEqual(
      report.repeated_ids.map(({ records }) => records.map(({ record }) => record)),
      [[2, 0]],
    );
  });

  test("the report does not depend on the number of threads", async (t) => {
    const shards = Object.fromEntries(
      Array.from({ length: 12 }, (_, i) => [`s${i}.tfrecord`, shardOf(`v${i}`, `v${(i * 5) % 12}`, "same")]),
    );
    const results = await Promise.all(["1", "5"].map(async (readers) => (await verify(t, shards, ["--readers", readers])).report));
    const [one, five] = results.map((report) => ({
      ...report,
      list: "",
      seconds: 0,
      bytes_per_second: 0,
      files: report.files.map((file) => ({ ...file, file: basename(file.file) })),
      repeated_ids: report.repeated_ids.map(({ id, records }) => [id, records.map(({ file, record }) => [basename(file), record])]),
    }));
    assert.deepEqual(one, five);
  });

  test("problems that are not listed are counted", async (t) => {
    const records = Array.from({ length: 250 }, (_, i) => encodeVideo(video(`v${i}`, { labels: Int32Array.of(11) })));
    const { report, files } = await verify(t, { "a.tfrecord": frame(...records) });
    const file = files.get("a.tfrecord");
    assert.deepEqual([report.problems, file?.problems, file?.listed.length], [250, 250, 100]);
  });

  test("videos without labels are a problem with --require-labels", async (t) => {
    assert.equal((await verify(t, { "a.tfrecord": frame(UNLABELLED) })).ended.exitCode, 0);
    const empty = encodeVideo(video("empty", { labels: new Int32Array() }));
    const { ended, codes, files } = await verify(t, { "a.tfrecord": frame(UNLABELLED, empty) }, ["--require-labels"]);
    const expected = [
      ["BAD_LABELS", 0],
      ["BAD_LABELS", 1],
    ];
    assert.deepEqual([ended.exitCode, codes("a.tfrecord")], [1, expected]);
    assert.match(files.get("a.tfrecord")?.listed[1]?.message ?? "", /record 1, byte \d+, video empty: the list of labels is empty\. Write/);
  });

  test("missing and unreadable files are reported with the others; a missing list is an error", async (t) => {
    const folder = temporaryFolder(t);
    writeFileSync(join(folder, "a.tfrecord"), shardOf("a"));
    symlinkSync("loop.tfrecord", join(folder, "loop.tfrecord"));
    writeFileSync(join(folder, "shards.list"), "a.tfrecord\nnowhere.tfrecord\nloop.tfrecord\n");
    const ended = await runNextvlad(["verify", join(folder, "shards.list"), "--json", ...SIZES]);
    const report = JSON.parse(ended.stdout) as VerifyReport;
    assert.deepEqual([ended.exitCode, report.records, report.problems], [1, 1, 2]);
    assert.match(report.list_problems[0] ?? "", /shards\.list: 1 of the list's 3 files not found: nowhere\.tfrecord/);
    const loop = report.files.find(({ file }) => file.endsWith("loop.tfrecord"));
    assert.deepEqual(
      loop?.listed.map(({ code }) => code),
      ["FILE_UNREADABLE"],
    );
    const missing = await runNextvlad(["verify", join(folder, "none.list")]);
    assert.deepEqual([missing.exitCode, missing.stdout], [1, ""]);
    assert.match(missing.error, /none\.list: file not found/);
  });

  test("a signal stops it with a report of what was checked so far", async (t) => {
    const folder = temporaryFolder(t);
    const shard = join(folder, "shard.tfrecord");
    const large = { frames: 2000, rgb: new Uint8Array(16_000), audio: new Uint8Array(8000) };
    writeFileSync(shard, frame(...Array.from({ length: 1000 }, (_, i) => encodeVideo(video(`v${i}`, large)))));
    mkdirSync(join(folder, "links"));
    for (let i = 0; i < 4000; i++) symlinkSync(shard, join(folder, "links", `${i}.tfrecord`));
    // Not a glob, which matches a file once.
    const list = join(folder, "links.list");
    writeFileSync(
      list,
      readdirSync(join(folder, "links"), { encoding: "utf8" })
        .map((name) => `links/${name}\n`)
        .join(""),
    );
    const args = ["verify", list, "--json", ...SIZES];
    const child = spawn(process.execPath, [compiled("nextvlad.cjs"), ...args], { cwd: repository });
    let stdout = "";
    child.stdout.on("data", (chunk: Buffer) => {
      stdout += chunk;
    });
    const ended = once(child, "close");
    const readBytes = (): number => Number(/rchar: (\d+)/.exec(readFileSync(`/proc/${child.pid}/io`, "utf8"))?.[1]);
    while (readBytes() < 200e6) await setTimeout(20);
    child.kill("SIGTERM");
    const [exitCode] = await ended;
    const report = JSON.parse(stdout) as VerifyReport;
    assert.deepEqual([exitCode, report.stopped], [143, true]);
    assert.ok(report.records > 0 && report.files.some(({ state }) => state === "unread"));
  });

  test("starts without TensorFlow", async (t) => {
    const folder = temporaryFolder(t);
    for (const command of ["verify", "inspect"]) {
      await spawnNextvlad([command, goldenData("train0000.tfrecord")], { env: { ...process.env, NODE_V8_COVERAGE: folder } });
    }
    const scripts = readdirSync(folder).map((name) => readFileSync(join(folder, name), "utf8"));
    assert.ok(scripts.some((text) => text.includes("/inspection/verify.js")));
    assert.ok(scripts.every((text) => !text.includes("@tensorflow/")));
  });
});

const module = new URL("../helpers/crashing-worker.js", import.meta.url);
const shape = { maxFrames: 300, featureNames: ["rgb", "audio"], featureSizes: [8, 4], numClasses: 10, labels: "required" } as const;

test("the death of a thread is a problem of its shard only", async () => {
  const { shards, stopped } = await verifyShards(
    ["exit", "throw"].map(examined),
    { shape, readers: 1, signal: new AbortController().signal },
    module,
  );
  assert.equal(stopped, false);
  const found = shards.map(({ path, state, listed }) => [path, state, listed.map(({ code, details }) => [code, details.file])]);
  assert.deepEqual(found, [
    ["exit", "broken", [["WORKER_DIED", "exit"]]],
    ["throw", "broken", [["WORKER_DIED", "throw"]]],
  ]);
  assert.equal(shards[1]?.listed[0]?.what, "the checking thread exited unexpectedly: something unforeseen");
});

test("a shard without results is reported repeatedly until the check is stopped", async () => {
  const stop = new AbortController();
  const reports: [path: string, waitedMs: number][] = [];
  const onSlow = (path: string, waitedMs: number): void => {
    if (reports.push([path, waitedMs]) === 3) stop.abort();
  };
  const { stopped } = await verifyShards(
    ["silent", "next"].map(examined),
    { shape, readers: 1, signal: stop.signal, onSlow, slowMs: 20 },
    module,
  );
  assert.equal(stopped, true);
  assert.deepEqual(
    reports.map(([path]) => path),
    ["silent", "silent", "silent"],
  );
  // Node's timers can fire a millisecond early.
  for (const [i, [, waitedMs]] of reports.entries()) assert.ok(waitedMs >= 20 * 2 ** i - 2, `${waitedMs}`);
});
