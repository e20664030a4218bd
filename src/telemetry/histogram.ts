import type { Histogram } from "../formats/protobuf/event.js";

/** The number of buckets that TensorBoard shows. */
const BUCKETS = 30;

/** Returns the histogram of the finite values, in buckets of equal width; null if there are none. */
export function histogramOf(values: Float32Array): Histogram | null {
  const { min, max, count, sum, sumOfSquares } = sumsOf(values);
  if (count === 0) return null;
  const buckets = min === max ? 1 : BUCKETS;
  const width = (max - min) / buckets;
  const limits = Float64Array.from({ length: buckets }, (_, i) => (i === buckets - 1 ? max : min + width * (i + 1)));
  return { min, max, count, sum, sumOfSquares, limits, counts: countIn(values, min, width, buckets) };
}

// Loops over an index take a seventh of the time of for-of loops; the model has 89 million values.

function sumsOf(values: Float32Array): Omit<Histogram, "limits" | "counts"> {
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  let count = 0;
  let sum = 0;
  let sumOfSquares = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (!Number.isFinite(value)) continue;
    if (value < min) min = value;
    if (value > max) max = value;
    count++;
    sum += value;
    sumOfSquares += value * value;
  }
  return { min, max, count, sum, sumOfSquares };
}

function countIn(values: Float32Array, min: number, width: number, buckets: number): Float64Array {
  const counts = new Float64Array(buckets);
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (!Number.isFinite(value)) continue;
    const bucket = width === 0 ? 0 : Math.min(buckets - 1, Math.floor((value - min) / width));
    counts[bucket] = (counts[bucket] as number) + 1;
  }
  return counts;
}
