import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { readTiming, reportProcesses } from "../../scripts/bench/whole-process.js";

describe("the timing of a whole process", () => {
  const line = (time: string, wait?: number): string => JSON.stringify({ time: `2026-01-01T00:00:${time}Z`, msg: "", wait_share: wait });
  const startMs = Date.parse("2026-01-01T00:00:00.000Z");
  const process = { startMs, endMs: startMs + 12_000 };

  test("starts with the process, and splits at the first batch", () => {
    const log = [line("00.500"), line("02.000", 0.9), line("11.000", 0.25), line("11.500")].join("\n");
    assert.deepEqual(readTiming(`${log}\n`, process, { batch: 32, videos: 132 }), {
      ...{ videos: 132, seconds: 12, first_batch_seconds: 2, rest_rate: 10, wait_share: 0.25 },
    });
  });

  test("needs a line about a batch", () => {
    assert.throws(() => readTiming(line("00.500"), process, { batch: 1, videos: 2 }), {
      code: "BAD_FORMAT",
      what: "the log contains no batches",
    });
  });

  test("is compared with the steady rate measured beside it", () => {
    const timing = { videos: 100, seconds: 10, first_batch_seconds: 2, rest_rate: 12, wait_share: 0.1 };
    const report = reportProcesses([timing, { ...timing, seconds: 5, rest_rate: 24 }], [20, 30]);
    assert.deepEqual(report.videos, 100);
    assert.deepEqual(report.share, { median: (0.5 + 20 / 30) / 2, min: 0.5, max: 20 / 30 });
    assert.deepEqual(report.rest_share, { median: 0.7, min: 0.6, max: 0.8 });
    assert.deepEqual(report.first_batch_seconds, { median: 2, min: 2, max: 2 });
    assert.deepEqual(report.wait_share, { median: 0.1, min: 0.1, max: 0.1 });
  });
});
