import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { mergeStatistics, NO_VALUES, quantize } from "../../src/conversion/features.js";

const YOUTUBE8M = [-2, 2] as const;

test("with -2 and 2, bytes are those of YouTube-8M's extractor", () => {
  // numpy.clip, then (x + 2) * 255 / 4 and Python's round.
  const values = Float32Array.of(-5, -2, -1.999, -1, 0, 0.5, 1.99, 2, 3.5);
  assert.deepEqual([...quantize(values, YOUTUBE8M).bytes], [0, 0, 0, 64, 128, 159, 254, 255, 255]);
});

test("a dequantized byte is within half a step of the value, and values keep their order", () => {
  fc.assert(
    fc.property(
      fc.float64Array({ min: -1e6, max: 1e6, noNaN: true, maxLength: 50 }),
      fc.double({ min: -1e6, max: 1e6, noNaN: true }),
      fc.double({ min: 1e-6, max: 1e6, noNaN: true }),
      (values, low, width) => {
        const high = low + width;
        fc.pre(high - low > width / 2);
        const sorted = values.sort();
        const { bytes, statistics } = quantize(sorted, [low, high]);
        const step = (high - low) / 255;
        for (const [i, value] of sorted.entries()) {
          const byte = bytes[i] as number;
          if (i > 0) assert.ok(byte >= (bytes[i - 1] as number));
          const clipped = Math.min(high, Math.max(low, value));
          // Half a quantization step, plus the float64 rounding error at this magnitude.
          assert.ok(Math.abs(low + byte * step - clipped) <= 0.5 * step + 1e-9 * Math.max(1, Math.abs(low)), `${value}: ${byte}`);
        }
        const outside = [...sorted].filter((value) => value < low || value > high);
        assert.equal(statistics.clipped, outside.length);
        if (sorted.length > 0) assert.deepEqual([statistics.min, statistics.max], [sorted[0], sorted.at(-1)]);
      },
    ),
  );
});

test("merged statistics of parts are those of the whole", () => {
  const values = Float64Array.of(-3, 0, 1, 7);
  const parts = [values.subarray(0, 1), values.subarray(1)].map((part) => quantize(part, YOUTUBE8M).statistics);
  assert.deepEqual(parts.reduce(mergeStatistics, NO_VALUES), quantize(values, YOUTUBE8M).statistics);
  assert.deepEqual(quantize(values, YOUTUBE8M).statistics, { min: -3, max: 7, values: 4, clipped: 2 });
});
