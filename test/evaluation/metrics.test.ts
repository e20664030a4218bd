import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { Logger } from "pino";
import { NextvladError } from "../../src/base/errors.js";
import { createRandom } from "../../src/base/random.js";
import { checkLabeled, encodeMetrics, type Metrics, MetricsAccumulator } from "../../src/evaluation/metrics.js";
import { TopSelector } from "../../src/evaluation/top-k.js";
import { restoreSums } from "../../src/passes/partial-state.js";

/** All sums are float64 and as short as the reference's; only their order differs. */
const TOLERANCE = 1e-12;

interface GoldenCase {
  readonly name: string;
  readonly classes: number;
  /** base64 of `[videos, classes] float32`. */
  readonly predictions: string;
  readonly labels: readonly number[][];
  readonly expected: {
    readonly hit_at_one: number;
    readonly perr: number;
    readonly gap: number;
    readonly map: number;
    readonly aps: number[];
  };
}

const goldenCases = JSON.parse(readFileSync(new URL("../../../test/golden/metrics/cases.json", import.meta.url), "utf8")) as GoldenCase[];

function assertClose(found: number, expected: number, what: string): void {
  assert.ok(Math.abs(found - expected) <= TOLERANCE, `${what}: ${found} is not ${expected}`);
}

function assertMetrics(found: Metrics, expected: GoldenCase["expected"]): void {
  for (const name of ["hit_at_one", "perr", "gap", "map"] as const) assertClose(found[name], expected[name], name);
  assert.equal(found.aps.length, expected.aps.length);
  for (const [c, ap] of expected.aps.entries()) assertClose(found.aps[c] as number, ap, `ap of class ${c}`);
}

describe("metrics equal those of numpy after YouTube-8M's eval_util", () => {
  for (const { name, classes, predictions, labels, expected } of goldenCases) {
    test(name, () => {
      const all = new Float32Array(Uint8Array.from(Buffer.from(predictions, "base64")).buffer);
      const metrics = new MetricsAccumulator(classes);
      // In batches of several sizes, to meet every boundary.
      for (let video = 0, size = 1; video < labels.length; video += size++) {
        const batch = labels.slice(video, video + size);
        metrics.add(
          all.slice(video * classes, (video + batch.length) * classes),
          batch.map((list) => Int32Array.from(list)),
          batch.length * 2,
        );
      }
      const found = metrics.result();
      assertMetrics(found, expected);
      assert.equal(found.videos, labels.length);
      assert.equal(found.loss, 2);
    });
  }
});

interface ManyCase {
  readonly name: string;
  readonly classes: number;
  readonly levels: number;
  readonly labels: readonly number[][];
  readonly expected: Omit<GoldenCase["expected"], "aps">;
}

const manyCases = JSON.parse(readFileSync(new URL("../../../test/golden/metrics/many.json", import.meta.url), "utf8")) as ManyCase[];

/** The numbers of scripts/golden/metrics.py's `scattered`. */
function scattered(count: number, levels: number): Float32Array {
  return new Float32Array(count).map((_, i) => {
    let x = i;
    for (const multiplier of [0x9e3779b1, 0x85ebca6b]) {
      x = Math.imul(x, multiplier) & 0xffffff;
      x ^= x >>> 12;
    }
    return Math.floor(x / (2 ** 24 / levels)) / levels;
  });
}

describe("metrics of 2,000 videos of 3,862 classes equal numpy's", () => {
  for (const { name, classes, levels, labels, expected } of manyCases) {
    test(name, () => {
      const all = scattered(labels.length * classes, levels);
      const metrics = new MetricsAccumulator(classes);
      for (let video = 0; video < labels.length; video += 160) {
        const batch = labels.slice(video, video + 160).map((list) => Int32Array.from(list));
        metrics.add(all.subarray(video * classes, (video + batch.length) * classes), batch);
      }
      const found = metrics.result();
      for (const key of ["hit_at_one", "perr", "gap", "map"] as const) assertClose(found[key], expected[key], key);
    });
  }
});

interface Row {
  readonly scores: readonly number[];
  readonly labels: readonly number[];
}

/** The definitions word by word: whole rows sorted, each class ranked on its own. */
function naiveMetrics(rows: readonly Row[], numClasses: number): GoldenCase["expected"] {
  const ranked = rows.map(({ scores }) => [...scores.keys()].sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b));
  const top = rows.flatMap(({ scores, labels }, video) =>
    (ranked[video] as number[]).slice(0, 20).map((c) => ({ c, score: scores[c] as number, hit: labels.includes(c) })),
  );
  const averagePrecision = (list: typeof top, positives: number): number => {
    const sorted = [...list].sort((a, b) => b.score - a.score || a.c - b.c);
    const precisions = sorted.map(({ hit }, rank) => (hit ? sorted.slice(0, rank + 1).filter((p) => p.hit).length / (rank + 1) : 0));
    return positives === 0 ? 0 : precisions.reduce((sum, precision) => sum + precision, 0) / positives;
  };
  const positives = (c: number): number => rows.filter(({ labels }) => labels.includes(c)).length;
  const aps = Array.from({ length: numClasses }, (_, c) =>
    averagePrecision(
      top.filter((p) => p.c === c),
      positives(c),
    ),
  );
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  return {
    hit_at_one: mean(rows.map(({ labels }, video) => (labels.includes((ranked[video] as number[])[0] as number) ? 1 : 0))),
    perr: mean(
      rows.map(({ scores, labels }, video) => {
        const first = (ranked[video] as number[]).slice(0, labels.length);
        return labels.length === 0 ? 0 : first.filter((c) => labels.includes(c) && (scores[c] as number) > 0).length / labels.length;
      }),
    ),
    gap: averagePrecision(
      top,
      rows.reduce((sum, { labels }) => sum + labels.length, 0),
    ),
    map: mean(aps),
    aps,
  };
}

/** Some videos of up to 45 classes; few different scores, so that ties are everywhere. */
const arbitraryRows = fc.integer({ min: 1, max: 45 }).chain((numClasses) =>
  fc.record({
    numClasses: fc.constant(numClasses),
    rows: fc.array(
      fc.record({
        scores: fc.array(
          fc.oneof(
            fc.integer({ min: 0, max: 4 }).map((n) => n / 4),
            fc.constant(-0),
            fc.float({ min: 0, max: 1, noNaN: true }),
          ),
          { minLength: numClasses, maxLength: numClasses },
        ),
        labels: fc.subarray(Array.from({ length: numClasses }, (_, c) => c)),
      }),
      { minLength: 1, maxLength: 12 },
    ),
  }),
);

test("metrics equal their definitions, also with ties", () => {
  fc.assert(
    fc.property(arbitraryRows, ({ numClasses, rows }) => {
      const metrics = new MetricsAccumulator(numClasses);
      metrics.add(
        Float32Array.from(rows.flatMap(({ scores }) => scores)),
        rows.map(({ labels }) => Int32Array.from(labels)),
      );
      assertMetrics(metrics.result(), naiveMetrics(rows, numClasses));
    }),
    { numRuns: 300 },
  );
});

test("metrics of perfect and of empty predictions", () => {
  const metrics = new MetricsAccumulator(3);
  metrics.add(Float32Array.of(0.9, 0.1, 0.2, 0.1, 0.8, 0.7), [Int32Array.of(0), Int32Array.of(1, 2)], 3);
  const { hit_at_one, perr, gap, map, loss, videos } = metrics.result();
  assert.deepEqual({ hit_at_one, perr, gap, map, loss, videos }, { hit_at_one: 1, perr: 1, gap: 1, map: 1, loss: 1.5, videos: 2 });
  assert.equal(new MetricsAccumulator(3).result().videos, 0);
  assert.ok(Number.isNaN(new MetricsAccumulator(3).result().hit_at_one));
});

test("a label outside the top 20 counts in the total", () => {
  const metrics = new MetricsAccumulator(40);
  metrics.add(
    Float32Array.from({ length: 40 }, (_, c) => 1 - c / 40),
    [Int32Array.of(0, 39)],
  );
  assert.equal(metrics.result().gap, 0.5);
  assert.equal(metrics.result().aps[39], 0);
});

test("the loss is NaN if a video was added without one", () => {
  const metrics = new MetricsAccumulator(2);
  metrics.add(Float32Array.of(0.5, 0.25), [Int32Array.of(0)]);
  assert.ok(Number.isNaN(metrics.result().loss));
});

test("NaN predictions and labels out of range are errors", () => {
  for (const nanAt of [0, 19, 20, 59]) {
    const predictions = new Float32Array(60).fill(0.5);
    predictions[nanAt] = Number.NaN;
    assert.throws(
      () => new MetricsAccumulator(30).add(predictions, [Int32Array.of(1), Int32Array.of(2)]),
      (error) =>
        error instanceof NextvladError &&
        error.code === "NOT_FINITE" &&
        error.message.includes(`class ${nanAt % 30} for video ${nanAt < 30 ? 0 : 1}`),
    );
  }
  for (const label of [-1, 30]) {
    assert.throws(
      () => new MetricsAccumulator(30).add(new Float32Array(30), [Int32Array.of(label)]),
      (error) => error instanceof NextvladError && error.code === "BAD_LABELS" && error.message.includes(`found ${label}`),
    );
  }
  assert.throws(() => new MetricsAccumulator(30).add(new Float32Array(31), [Int32Array.of(1)]), RangeError);
});

test("ranked predictions of all classes give the same metrics as whole rows; an omitted class is never a hit", () => {
  const [ranked, whole] = [new MetricsAccumulator(4, 3), new MetricsAccumulator(4, 3)];
  const rows = [Float32Array.of(0.1, 0.4, 0.4, 0.2), Float32Array.of(0.9, 0.3, 0.5, 0.7)];
  const labels = [Int32Array.of(0, 2), Int32Array.of(1, 2, 3)];
  for (const [video, row] of rows.entries()) {
    ranked.addRanked(new TopSelector().selectRow(row, 0, row.length, 4), labels[video] as Int32Array);
    whole.add(row, [labels[video] as Int32Array]);
  }
  assert.deepEqual(ranked.result(), whole.result());
  const none = { scores: new Float32Array(), classes: new Int32Array() };
  const partial = new MetricsAccumulator(4, 3);
  partial.addRanked({ scores: Float32Array.of(0.5), classes: Int32Array.of(1) }, Int32Array.of(0, 1));
  partial.addRanked(none, Int32Array.of(0));
  const { hit_at_one: hit, perr, gap, aps, loss } = partial.result();
  assert.deepEqual([hit, perr, gap, ...aps, loss], [0.5, 0.25, 1 / 3, 0, 1, 0, 0, Number.NaN]);
  assert.throws(() => partial.addRanked(none, Int32Array.of(4)), { code: "BAD_LABELS" });
});

test("metrics are the same bit for bit after saving and restoring at any point", () => {
  const classes = 50;
  const [whole, first, second] = [new MetricsAccumulator(classes), new MetricsAccumulator(classes), new MetricsAccumulator(classes)];
  const random = createRandom(3, "digits");
  // More than a chunk of the list's 2^16 predictions on both sides of the cut.
  const batches = Array.from({ length: 9 }, () => {
    const labels = Array.from({ length: 1000 }, () => Int32Array.of(random.below(classes)));
    return { rows: Float32Array.from({ length: 1000 * classes }, () => random.below(1000) / 1000), labels };
  });
  const saved: Uint8Array[] = [];
  for (const { rows, labels } of batches) whole.add(rows, labels, 0.1);
  for (const { rows, labels } of batches.slice(0, 5)) {
    first.add(rows, labels, 0.1);
    saved.push(first.take());
  }
  assert.equal(first.length, 0);
  restoreSums(second.sums, first.sums, "f");
  for (const bytes of saved) second.put(bytes);
  assert.equal(second.length, 0);
  for (const { rows, labels } of batches.slice(5)) second.add(rows, labels, 0.1);
  assert.deepEqual(second.result(), whole.result());
  assert.equal(second.length, 4 * 1000 * 20 * 8);
});

test("videos without labels are counted with a warning; without any label it is an error", () => {
  const warnings: string[] = [];
  const log = { warn: (_: object, message: string) => warnings.push(message) } as unknown as Logger;
  const metrics = new MetricsAccumulator(2);
  metrics.add(Float32Array.of(0.5, 0.6, 0.7, 0.1), [new Int32Array(), new Int32Array()]);
  const message = /^shards\.list: cannot compute metrics: none of the 2 videos has a label\./;
  assert.throws(() => checkLabeled(metrics, "shards.list", log), { code: "BAD_LABELS", message });
  metrics.add(Float32Array.of(0.2, 0.3), [Int32Array.of(1)]);
  checkLabeled(metrics, "shards.list", log);
  assert.deepEqual(warnings, ["shards.list: 2 of 3 videos have no labels; they count as misses"]);
  assert.match(encodeMetrics(metrics.result()), /"videos": 3,\n "videos_without_labels": 2,/);
  const whole = new MetricsAccumulator(2);
  whole.add(Float32Array.of(0.2, 0.3), [Int32Array.of(1)]);
  checkLabeled(whole, "shards.list", log);
  assert.equal(warnings.length, 1);
});
