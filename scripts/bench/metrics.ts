/**
 * How long the metrics take: N random videos of 3,862 classes, in batches of 160.
 *   node dist/scripts/bench/metrics.js [videos = 20000]
 */
import { MetricsAccumulator } from "../../src/evaluation/metrics.js";

const VIDEOS = Number(process.argv[2] ?? 20_000);
const CLASSES = 3862;
const BATCH = 160;

/** Three labels a video on average, as in YouTube-8M. */
function randomLabels(): Int32Array {
  const labels = new Set<number>();
  const count = 1 + Math.floor(Math.random() * 5);
  while (labels.size < count) labels.add(Math.floor(Math.random() * CLASSES));
  return Int32Array.from(labels).sort();
}

const metrics = new MetricsAccumulator(CLASSES);
let milliseconds = 0;
for (let done = 0; done < VIDEOS; done += BATCH) {
  const videos = Math.min(BATCH, VIDEOS - done);
  const predictions = Float32Array.from({ length: videos * CLASSES }, () => Math.random());
  const labels = Array.from({ length: videos }, randomLabels);
  const start = performance.now();
  metrics.add(predictions, labels, videos);
  milliseconds += performance.now() - start;
}
const start = performance.now();
const { gap, hit_at_one, perr, map } = metrics.result();
milliseconds += performance.now() - start;

const seconds = milliseconds / 1000;
process.stdout.write(
  `metrics: ${VIDEOS} videos x ${CLASSES} classes in ${seconds.toFixed(2)} s, ${Math.round(VIDEOS / seconds)} videos/s ` +
    `(GAP ${gap.toFixed(6)}, Hit@1 ${hit_at_one.toFixed(5)}, PERR ${perr.toFixed(6)}, MAP ${map.toFixed(6)})\n`,
);
