import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { audiosetConfigOf, FULL_SIZE, ROOT } from "../../scripts/bench/checkout.js";
import { describeTask, formatReport, makeReport, type Pair } from "../../scripts/bench/report.js";

const memory = { batch: 32, frames: 300, steps: 5, precision: "float32", use_gpu: false } as const;
const task = { mode: "infer", config: FULL_SIZE, isa: null, ...memory } as const;
const ours = { task, rate: 60, peak_gib: 1.25, seconds: [0.5], network: null };
const result = (name: string, rate: number) => ({ name, rate, peak_gib: 2 });
const pair = (change: Partial<Pair> = {}): Pair => ({ ours, from_shards: null, variants: [], peers: [], ...change });

describe("the report", () => {
  test("compares with the fastest peer of each pair, and not with variants of nextvlad", () => {
    const variants = [result("before", 100)];
    const first = pair({ variants, peers: [result("tf", 30), result("torch", 40)] });
    const second = pair({ variants, peers: [result("tf", 20), result("torch", 10)] });
    const report = makeReport(task, [first, second]);
    assert.deepEqual([report.ratio_to_fastest, report.ratio_range], [2.25, [1.5, 3]]);
    assert.deepEqual(
      report.rows.map(({ name, ratio }) => [name, ratio?.median]),
      [
        ["nextvlad", undefined],
        ["before", 0.6],
        ["tf", 2.5],
        ["torch", 3.75],
      ],
    );
  });

  test("names the reader threads of each row", () => {
    const read = { mode: "read", directory: "shards", batch: 32, readers: 2 } as const;
    const variants = [result("nextvlad, 16 threads", 120)];
    const lines = formatReport(makeReport(read, [pair({ ours: { ...ours, task: read }, variants })])).split("\n");
    assert.match(lines[0] ?? "", /^[^,]*, \d+ CPUs, \d+ GiB; median/);
    assert.match(lines[4] ?? "", /^\| nextvlad, 2 threads \| 60 \(60\.\.60\) \|/);
    assert.match(lines[5] ?? "", /^\| nextvlad, 16 threads \| 120 \(120\.\.120\) \|.* 0\.50 \(0\.50\.\.0\.50\) \|$/);
  });

  test("states the shares of the whole process", () => {
    const timing = { videos: 2000, seconds: 40, first_batch_seconds: 1.5, rest_rate: 57, wait_share: 0.01 };
    const { from_shards: shards, ...report } = makeReport(task, [pair({ from_shards: timing })]);
    assert.ok(shards !== null);
    assert.match(
      formatReport({ ...report, from_shards: shards }),
      /from 2000 videos in shards on disk: 83\.3 .* % of the steady rate; first batch done after 1\.50 .* s; then 95\.0 .* %.*; waiting for data 1\.0 .* % of the time\./,
    );
    assert.doesNotMatch(formatReport({ ...report, from_shards: null }), /shards/);
    assert.match(formatReport({ ...report, threads: 1, from_shards: null }), /^.*, 1 thread on \d+ CPUs, \d+ GiB; median/);
  });

  test("names the config and the level in its heading", () => {
    assert.equal(describeTask(task), "infer, batch 32, 300 frames");
    const small = { ...task, config: audiosetConfigOf(ROOT), frames: 10, batch: 128, isa: "avx2" } as const;
    assert.equal(describeTask(small), "infer, audioset-plain.yaml, batch 128, 10 frames, avx2");
  });
});
