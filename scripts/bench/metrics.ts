import { MetricsAccumulator } from "../../src/evaluation/metrics.js";

/** Videos per call of `add`, as in evaluation. */
const BATCH = 160;

/** Videos whose predictions are in memory at once: the default number of the peer's script, 309 MB. */
const BLOCK = 20_000;

/** Fills `values` by Marsaglia's xorshift, 24 random bits per value: `Math.random` would take half a minute for a million videos. */
function fillRandomly(values: Float32Array, seed: number): number {
  let state = seed;
  for (let i = 0; i < values.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    values[i] = (state >>> 8) / 2 ** 24;
  }
  return state;
}

/** Returns one label and about three more, as in the peer's script: their number is Poisson distributed (Knuth's algorithm). */
function randomLabels(classes: number): Int32Array {
  const labels = new Set<number>();
  const addOne = (): void => void labels.add(Math.floor(Math.random() * classes));
  addOne();
  for (let product = Math.random(); product > Math.exp(-3); product *= Math.random()) addOne();
  return Int32Array.from(labels).sort();
}

/**
 * Returns the seconds to compute the metrics of random videos from `[videos, classes] float32` predictions, excluding the generation of the videos.
 * Beyond 20,000 videos the same memory is refilled, so the peak memory is that of the metrics and one block.
 */
export function timeMetrics(videos: number, classes: number): number {
  const metrics = new MetricsAccumulator(classes);
  const block = new Float32Array(Math.min(videos, BLOCK) * classes);
  let state = 1;
  let milliseconds = 0;
  const time = (work: () => void): void => {
    const start = performance.now();
    work();
    milliseconds += performance.now() - start;
  };
  for (let done = 0; done < videos; done += BLOCK) {
    const count = Math.min(BLOCK, videos - done);
    state = fillRandomly(block, state);
    const labels = Array.from({ length: count }, () => randomLabels(classes));
    time(() => {
      for (let from = 0; from < count; from += BATCH) {
        const to = Math.min(from + BATCH, count);
        metrics.add(block.subarray(from * classes, to * classes), labels.slice(from, to));
      }
    });
  }
  time(() => metrics.result());
  return milliseconds / 1000;
}
