import assert from "node:assert/strict";
import { test } from "node:test";
import { histogramOf } from "../../src/telemetry/histogram.js";

test("counts values in 30 buckets from the minimum to the maximum", () => {
  // One value at the middle of each bucket i and i more, so that the sum of the counts is 30 + 29 * 30 / 2.
  const values = Array.from({ length: 30 }, (_, i) => Array.from({ length: i + 1 }, () => i + 0.5)).flat();
  const found = histogramOf(Float32Array.from([...values, 0, 30]));
  assert.ok(found !== null);
  const { limits, counts, ...numbers } = found;
  assert.deepEqual(
    [...limits],
    Array.from({ length: 30 }, (_, i) => i + 1),
  );
  assert.deepEqual(
    [...counts],
    Array.from({ length: 30 }, (_, i) => i + 1 + (i === 0 || i === 29 ? 1 : 0)),
  );
  const sum = values.reduce((total, value) => total + value, 30);
  const sumOfSquares = values.reduce((total, value) => total + value ** 2, 900);
  assert.deepEqual(numbers, { min: 0, max: 30, count: values.length + 2, sum, sumOfSquares });
});

test("equal values are one bucket, and values that are not finite none", () => {
  const { limits, counts, ...numbers } = histogramOf(Float32Array.of(2, Number.NaN, 2, Number.POSITIVE_INFINITY)) ?? assert.fail();
  assert.deepEqual([[...limits], [...counts]], [[2], [2]]);
  assert.deepEqual(numbers, { min: 2, max: 2, count: 2, sum: 4, sumOfSquares: 8 });
  assert.equal(histogramOf(Float32Array.of(Number.NaN, Number.NEGATIVE_INFINITY)), null);
  assert.equal(histogramOf(new Float32Array(0)), null);
});

test("every finite float has a bucket", () => {
  const [tiny, huge] = [2 ** -149, 3.4028234663852886e38];
  for (const values of [
    [-huge, 0, huge],
    [0, tiny],
    [1, 1 + 2 ** -23],
    [-huge, -tiny, tiny],
  ]) {
    const { counts, limits, max } = histogramOf(Float32Array.from(values)) ?? assert.fail();
    assert.equal(
      counts.reduce((total, count) => total + count),
      values.length,
    );
    assert.equal(limits.at(-1), max);
  }
});
