import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createRandom } from "../../src/base/random.js";
import { MAX_POINTS } from "../../src/evaluation/curves.js";
import { MetricsAccumulator } from "../../src/evaluation/metrics.js";

/** Sums of float64 in another order. */
const TOLERANCE = 1e-12;
const [VIDEOS, CLASSES, TOPK] = [3000, 30, 20];

/** Videos whose probabilities are rounded, so that many are equal, and skewed to 0 and 1. */
const random = createRandom(5, "digits");
const all = Float32Array.from({ length: VIDEOS * CLASSES }, () => Math.round((random.below(1000) / 999) ** 3 * 100) / 100);
const labels = Array.from({ length: VIDEOS }, (_, video) =>
  Int32Array.from(
    Array.from({ length: CLASSES }, (_, c) => c).filter((c) => random.below(100) < 60 * (all[video * CLASSES + c] as number)),
  ),
);
const accumulator = new MetricsAccumulator(CLASSES, TOPK);
accumulator.add(all, labels, 1);
const { metrics, curves } = accumulator.analyze();

/** The pooled top predictions by their definition. */
const pooled = labels.flatMap((list, video) => {
  const row = Array.from(all.subarray(video * CLASSES, (video + 1) * CLASSES), (score, c) => ({ score, hit: list.includes(c) ? 1 : 0 }));
  return row.sort((a, b) => b.score - a.score).slice(0, TOPK);
});
const positives = labels.reduce((sum, list) => sum + list.length, 0);

test("the metrics are those without curves", () => assert.deepEqual(metrics, accumulator.result()));

describe("precision and recall", () => {
  const { recall, precision, threshold } = curves.precision_recall;

  test("increase in recall, from the first prediction to the last", () => {
    assert.ok(recall.length > 100 && recall.length <= MAX_POINTS, String(recall.length));
    assert.ok(recall.every((value, i) => i === 0 || value > (recall[i - 1] as number) || i === recall.length - 1));
    assert.equal(threshold[0], Math.max(...all));
    const hits = pooled.reduce((sum, { hit }) => sum + hit, 0);
    assert.ok(Math.abs((recall.at(-1) as number) - hits / positives) < TOLERANCE);
    assert.ok(Math.abs((precision.at(-1) as number) - hits / pooled.length) < TOLERANCE);
  });

  test("are between those of all predictions above the threshold and of all from it", () => {
    for (const [i, limit] of threshold.entries()) {
      const above = pooled.filter(({ score }) => score > limit).reduce((sum, { hit }) => sum + hit, 0) / positives;
      const from = pooled.filter(({ score }) => score >= limit).reduce((sum, { hit }) => sum + hit, 0) / positives;
      assert.ok(above <= (recall[i] as number) && (recall[i] as number) <= from, `${i}: ${above} ${recall[i]} ${from}`);
    }
  });

  test("have GAP as area", () => {
    // Both sum precision over recall; the points are 1/200 apart, and precision changes by less than 0.01 between most.
    const area = recall.reduce((sum, value, i) => sum + (value - (recall[i - 1] ?? 0)) * (precision[i] as number), 0);
    assert.ok(Math.abs(area - metrics.gap) < 0.005, `${area} is not ${metrics.gap}`);
  });
});

test("each bin has the number, mean probability and hit share of its predictions", () => {
  assert.equal(curves.calibration.length, 20);
  for (const { from, to, predictions, mean_probability: mean, hit_share: share } of curves.calibration) {
    const own = pooled.filter(({ score }) => score >= from && (score < to || to === 1));
    assert.equal(predictions, own.length, `${from}`);
    assert.ok(own.length > 0);
    assert.ok(Math.abs((mean as number) - own.reduce((sum, { score }) => sum + score, 0) / own.length) < TOLERANCE);
    assert.ok(Math.abs((share as number) - own.reduce((sum, { hit }) => sum + hit, 0) / own.length) < TOLERANCE);
  }
});

test("a bin without predictions has no mean", () => {
  const one = new MetricsAccumulator(2);
  one.add(Float32Array.of(1, 0), [Int32Array.of(0)], 0);
  const { calibration, precision_recall: points } = one.analyze().curves;
  assert.deepEqual(points, { recall: [1, 1], precision: [1, 0.5], threshold: [1, 0] });
  assert.deepEqual(calibration.at(-1), { from: 0.95, to: 1, predictions: 1, mean_probability: 1, hit_share: 1 });
  assert.deepEqual(calibration[1], { from: 0.05, to: 0.1, predictions: 0, mean_probability: null, hit_share: null });
});
