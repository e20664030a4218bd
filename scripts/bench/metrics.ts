import { MetricsAccumulator } from "../../src/evaluation/metrics.js";

const BATCH = 160;

/** Three labels a video on average, as in YouTube-8M. */
function randomLabels(classes: number): Int32Array {
  const labels = new Set<number>();
  const count = 1 + Math.floor(Math.random() * 5);
  while (labels.size < count) labels.add(Math.floor(Math.random() * classes));
  return Int32Array.from(labels).sort();
}

/** Seconds that the metrics of random videos take, in batches of 160; making the videos does not count. */
export function timeMetrics(videos: number, classes: number): number {
  const metrics = new MetricsAccumulator(classes);
  let milliseconds = 0;
  for (let done = 0; done < videos; done += BATCH) {
    const count = Math.min(BATCH, videos - done);
    const predictions = Float32Array.from({ length: count * classes }, () => Math.random());
    const labels = Array.from({ length: count }, () => randomLabels(classes));
    const start = performance.now();
    metrics.add(predictions, labels);
    milliseconds += performance.now() - start;
  }
  const start = performance.now();
  metrics.result();
  return (milliseconds + performance.now() - start) / 1000;
}
