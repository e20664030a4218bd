import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { countArithmetic, countStep } from "../../scripts/bench/arithmetic.js";
import { FULL_SIZE } from "../../scripts/bench/checkout.js";
import { formatPercent, formatSpread, ratiosToFastest, spreadOf } from "../../scripts/bench/statistics.js";
import { frameCounts } from "../../scripts/bench/workload.js";
import { loadConfig } from "../../src/config/load.js";
import { modelSizes } from "../../src/model/sizes.js";

const config = await loadConfig(FULL_SIZE);
const sizes = modelSizes(config.MODEL);

/** Within a share of a figure that was worked out by hand to two or three digits. */
function assertNear(found: number, expected: number, share: number): void {
  assert.ok(Math.abs(found / expected - 1) <= share, `${found} is not near ${expected}`);
}

describe("arithmetic of the full-size network", () => {
  test("a frame takes 7.2 MFLOP forward, 15 forward and backward", () => {
    assertNear(countArithmetic(sizes, "infer").frame, 7.2e6, 0.01);
    assertNear(countArithmetic(sizes, "train").frame, 15e6, 0.01);
  });

  test("a video of 300 frames takes 5.0 GFLOP in training, without the fold", () => {
    const { frame, video } = countArithmetic(sizes, "train");
    assertNear(300 * frame + video, 5.0e9, 0.01);
  });

  test("the fold is made once a step of training, and not in inference", () => {
    assert.equal(countArithmetic(sizes, "infer").step, 0);
    // Three times W Wc and W Wa of both streams.
    assert.equal(countArithmetic(sizes, "train").step, 3 * 2 * (1024 * 2048 + 128 * 256) * (1024 + 8));
  });

  test("a step counts the frames there are", () => {
    assert.equal(countStep({ frame: 10, video: 1000, step: 50_000 }, Int32Array.of(3, 4)), 70 + 2000 + 50_000);
  });
});

describe("lengths", () => {
  test("YouTube-8M's mix lies evenly in 120..300, 210 on average", () => {
    for (const videos of [1, 2, 32, 160]) {
      const counts = frameCounts(videos, "yt8m");
      assert.equal(counts.length, videos);
      assert.ok(counts.every((count) => count >= 120 && count <= 300));
      const mean = counts.reduce((sum, count) => sum + count, 0) / videos;
      assert.ok(Math.abs(mean - 210) <= 0.5, `the mean of ${videos} is ${mean}`);
    }
  });

  test("a number of frames is every video's", () => {
    assert.deepEqual(frameCounts(3, 7), Int32Array.of(7, 7, 7));
  });
});

describe("statistics", () => {
  test("median of an odd and of an even number of values, whatever their order", () => {
    assert.deepEqual(spreadOf([10, 9, 2]), { median: 9, min: 2, max: 10 });
    assert.deepEqual(spreadOf([4, 1, 3, 2]), { median: 2.5, min: 1, max: 4 });
  });

  test("a spread is printed with its range, fractions in percent", () => {
    assert.equal(formatSpread({ median: 1.716, min: 1.6, max: 1.82 }, 2), "1.72 (1.60..1.82)");
    assert.equal(formatPercent({ median: 0.871, min: 0.85, max: 0.9 }), "87.1 (85.0..90.0)");
  });

  test("the fastest peer is sought pair by pair", () => {
    const peers = [
      [10, 40],
      [20, 15],
    ];
    assert.deepEqual(ratiosToFastest([30, 60], peers), [1.5, 1.5]);
  });
});
