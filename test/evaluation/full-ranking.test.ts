import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type FullRanking, normalQuantile, rankAll } from "../../src/evaluation/full-ranking.js";
import { MetricsAccumulator } from "../../src/evaluation/metrics.js";
import { ScoreRows } from "../../src/evaluation/score-rows.js";
import { needsPython, runPython } from "../helpers/python.js";

/** Both sides are sums of at most some hundred float64 values up to 1. */
const TOLERANCE = 1e-12;

/** The values that an independent source expects; null where the metric is undefined. */
interface Expected extends Omit<FullRanking, "aps" | "aucs"> {
  readonly aps: readonly (number | null)[];
  readonly aucs: readonly (number | null)[];
}

interface GoldenCase {
  readonly name: string;
  readonly classes: number;
  /** base64 of `[videos, classes] float32`. */
  readonly predictions: string;
  readonly labels: readonly number[][];
  readonly expected: Expected;
}

const goldenCases = JSON.parse(
  readFileSync(new URL("../../../test/golden/metrics/full_ranking.json", import.meta.url), "utf8"),
) as GoldenCase[];

function assertClose(found: number, expected: number | null, what: string): void {
  const isSame = Object.is(found, expected ?? Number.NaN);
  assert.ok(isSame || Math.abs(found - (expected ?? Number.NaN)) <= TOLERANCE, `${what}: ${found} is not ${expected}`);
}

function assertRanking(found: FullRanking, expected: Expected): void {
  for (const name of ["map", "mauc", "d_prime", "classes"] as const) assertClose(found[name], expected[name], name);
  for (const name of ["aps", "aucs"] as const) {
    assert.equal(found[name].length, expected[name].length);
    for (const [c, value] of expected[name].entries()) assertClose(found[name][c] as number, value, `${name}[${c}]`);
  }
}

/** Ranks videos that were encoded in batches, and are read in pieces of `rowsPerPiece`. */
function rank(
  predictions: Float32Array,
  labels: readonly (readonly number[])[],
  classes: number,
  { rowsPerPiece = 7, maxPositives = 2 ** 20 } = {},
): Promise<FullRanking> {
  const rows = new ScoreRows(classes);
  const metrics = new MetricsAccumulator(classes, 20, rows);
  const pieces: Uint8Array[] = [];
  for (let video = 0, size = 1; video < labels.length; video += size++) {
    const batch = labels.slice(video, video + size).map((list) => Int32Array.from(list));
    metrics.add(predictions.subarray(video * classes, (video + batch.length) * classes), batch);
    if (size % 3 === 0) pieces.push(rows.take());
  }
  pieces.push(rows.take());
  const bits = new Int32Array(new Uint8Array(Buffer.concat(pieces)).buffer);
  assert.equal(bits.length, predictions.length);
  async function* read(): AsyncGenerator<Int32Array> {
    const length = rowsPerPiece * classes;
    for (let at = 0; at < bits.length; at += length) yield bits.subarray(at, at + length);
  }
  return rankAll(read, metrics.sums.positives, maxPositives);
}

describe("metrics over the full ranking equal scikit-learn's", () => {
  for (const { name, classes, predictions, labels, expected } of goldenCases) {
    test(name, async () => {
      const all = new Float32Array(Uint8Array.from(Buffer.from(predictions, "base64")).buffer);
      const ranked = await rank(all, labels, classes);
      assertRanking(ranked, expected);
      // Classes that have more positives than are stored at once are ranked one by one.
      for (const maxPositives of [1, 100, 250]) assert.deepEqual(await rank(all, labels, classes, { maxPositives }), ranked);
      for (const rowsPerPiece of [1, 1000]) assert.deepEqual(await rank(all, labels, classes, { rowsPerPiece }), ranked);
    });
  }
});

/** The definitions: precision and recall at each different score, and all pairs of a positive and a negative. */
function rankNaively(scores: readonly number[], isPositive: readonly boolean[]): { readonly ap: number; readonly auc: number } {
  const positives = scores.filter((_, i) => isPositive[i]);
  const negatives = scores.filter((_, i) => !isPositive[i]);
  let [ap, recallBefore] = [0, 0];
  for (const threshold of [...new Set(scores)].sort((a, b) => b - a)) {
    const found = positives.filter((score) => score >= threshold).length;
    const recall = found / positives.length;
    ap += ((recall - recallBefore) * found) / (found + negatives.filter((score) => score >= threshold).length);
    recallBefore = recall;
  }
  const points = positives.flatMap((p) => negatives.map((n): number => (p > n ? 1 : p === n ? 0.5 : 0)));
  return { ap, auc: points.reduce((sum, point) => sum + point, 0) / points.length };
}

test("metrics over the full ranking equal their definitions, also with ties, zeros and denormal scores", () =>
  fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.record({
          score: fc.oneof(
            fc.integer({ min: 0, max: 3 }).map((n) => n / 3),
            fc.constantFrom(-0, 1e-40, 2e-40, 1),
            fc.float({ min: 0, max: 1, noNaN: true }),
          ),
          isPositive: fc.boolean(),
        }),
        { minLength: 1, maxLength: 40 },
      ),
      async (videos) => {
        const scores = Float32Array.from(videos, ({ score }) => score);
        const isPositive = videos.map((video) => video.isPositive);
        const labels = isPositive.map((yes) => (yes ? [0] : []));
        const { ap, auc } = rankNaively([...scores].map(Math.abs), isPositive);
        const { aps, aucs, map, mauc } = await rank(scores, labels, 1);
        if (isPositive.includes(true)) assertClose(aps[0] as number, ap, "ap");
        else assert.deepEqual([aps[0], map], [Number.NaN, Number.NaN]);
        if (isPositive.includes(true) && isPositive.includes(false)) assertClose(aucs[0] as number, auc, "auc");
        else assert.deepEqual([aucs[0], mauc], [Number.NaN, Number.NaN]);
      },
    ),
    { numRuns: 300 },
  ));

test("the normal quantile equals Python's", needsPython, () => {
  const probabilities = [1e-9, 0.003, 0.25, 0.4999, 0.5, 0.500001, 0.6, 0.8, 0.9514, 0.99, 0.9999, 1 - 1e-9];
  const quantiles = runPython(
    "import json, statistics, sys; print(json.dumps([statistics.NormalDist().inv_cdf(float(p)) for p in sys.argv[1:]]))",
    probabilities.map(String),
  ) as number[];
  for (const [i, p] of probabilities.entries()) {
    const expected = quantiles[i] as number;
    // A rounding of p, or of 1 - p, moves the quantile by that divided by the density.
    const density = Math.exp((-expected * expected) / 2) / Math.sqrt(2 * Math.PI);
    const tolerance = 1e-15 * Math.max(1, Math.abs(expected)) + 1e-15 / density;
    assert.ok(Math.abs(normalQuantile(p) - expected) <= tolerance, `${p}: ${normalQuantile(p)} is not ${expected}`);
  }
  assert.deepEqual([0, 1, Number.NaN].map(normalQuantile), [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, Number.NaN]);
});
