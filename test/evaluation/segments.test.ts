import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { MetricsAccumulator } from "../../src/evaluation/metrics.js";
import { failsWith } from "../helpers/shards.js";

/** Both sides are sums of at most some hundred float64 values up to 1. */
const TOLERANCE = 1e-12;

interface GoldenCase {
  readonly name: string;
  readonly classes: number;
  /** base64 of `[segments, classes] float32`. */
  readonly predictions: string;
  readonly rated: readonly number[][];
  readonly labels: readonly number[][];
  readonly expected: Readonly<Record<"map_at_k" | "classes" | "hit_at_one" | "perr" | "gap" | "map", number>>;
}

const cases = JSON.parse(readFileSync(new URL("../../../test/golden/metrics/segments.json", import.meta.url), "utf8")) as GoldenCase[];
const ints = (lists: readonly number[][]): Int32Array[] => lists.map((list) => Int32Array.from(list));
const ofSegments = (classes: number): MetricsAccumulator => new MetricsAccumulator(classes, 20, null, true);

describe("metrics of rated segments equal numpy's (scripts/golden/segments.py)", () => {
  for (const { name, classes, predictions, rated, labels, expected } of cases) {
    test(name, () => {
      const all = new Float32Array(Uint8Array.from(Buffer.from(predictions, "base64")).buffer);
      const accumulator = ofSegments(classes);
      const restored = ofSegments(classes);
      for (let first = 0; first < rated.length; first += 7) {
        const end = Math.min(rated.length, first + 7);
        accumulator.add(all.subarray(first * classes, end * classes), ints(labels.slice(first, end)), 1, ints(rated.slice(first, end)));
        // As eval resumes: the sums and the predictions are its whole state.
        restored.put(accumulator.take());
      }
      for (const [sum, values] of Object.entries(accumulator.sums)) restored.sums[sum as "videos"].set(values);
      for (const metrics of [accumulator.result(), restored.result()]) {
        const found = { ...metrics, ...metrics.segments };
        for (const [metric, value] of Object.entries(expected)) {
          const measured = found[metric as keyof typeof expected] ?? Number.NaN;
          assert.ok(Math.abs(measured - value) <= TOLERANCE, `${metric}: ${measured} is not ${value}`);
        }
        assert.equal(metrics.videos, rated.length);
      }
    });
  }
});

test("unrated classes do not count, however probable they are", () => {
  const measure = (unrated: number) => {
    const accumulator = ofSegments(3);
    accumulator.add(
      Float32Array.of(0.2, unrated, 0.1, unrated, 0.4, 0.3),
      ints([[0], [2]]),
      0,
      ints([
        [0, 2],
        [1, 2],
      ]),
    );
    return accumulator.result();
  };
  assert.deepEqual(measure(0.9), measure(0));
  assert.equal(measure(0.9).hit_at_one, 0.5);
});

test("segments after the first 100,000 of a class do not count as found", () => {
  const accumulator = ofSegments(1);
  for (let rank = 1; rank <= 100_010; rank++) {
    accumulator.add(Float32Array.of(1 - rank / 200_000), [rank === 2 || rank === 100_005 ? Int32Array.of(0) : new Int32Array(0)], 0, [
      Int32Array.of(0),
    ]);
  }
  // One of two positives, at rank 2.
  assert.deepEqual(accumulator.result().segments, { map_at_k: 0.25, k: 100_000, classes: 1 });
});

test("NaN of a rated class is an error", async () => {
  const add = (): void => ofSegments(2).add(Float32Array.of(Number.NaN, 0.5), [new Int32Array(0)], 0, [Int32Array.of(0)]);
  await failsWith(Promise.resolve().then(add), "NOT_FINITE");
});
