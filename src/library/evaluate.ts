import { NextvladError } from "../base/errors.js";
import { checkLabeled, MetricsAccumulator } from "../evaluation/metrics.js";
import { warningLog } from "./warnings.js";

/** A prediction with what it should have been. */
export interface LabeledPrediction {
  /** `[classes] float32`. */
  readonly probabilities: Float32Array;
  /** The true classes. */
  readonly labels: Iterable<number>;
}

/** YouTube-8M's metrics (google/youtube-8m, eval_util.py) over all videos. */
export interface Evaluation {
  /** Share of videos whose most probable class is a true one. */
  readonly hitAtOne: number;
  /** Precision at equal recall rate: the share of true classes among a video's top n, where n is the number of its labels; averaged over videos. */
  readonly perr: number;
  /** Global average precision over the 20 most probable classes of all videos, pooled. */
  readonly gap: number;
  /** Mean of `averagePrecisions` over all classes. */
  readonly map: number;
  /** Average precision of each class, from the same predictions; 0 for a class that is no video's label. `[classes] float64`. */
  readonly averagePrecisions: Float64Array;
  readonly videos: number;
  /** Videos without a label, which count as misses. */
  readonly videosWithoutLabels: number;
}

/**
 * Computes the metrics of predictions, as `nextvlad eval` does. Stores the 20 most probable classes of each video.
 * Throws TOO_FEW_VIDEOS without predictions, BAD_LABELS if no video has a label or a label is not a class, NOT_FINITE if a probability is NaN, and BAD_USAGE if
 * the predictions have different numbers of classes.
 */
export async function evaluate(predictions: Iterable<LabeledPrediction> | AsyncIterable<LabeledPrediction>): Promise<Evaluation> {
  let accumulator: MetricsAccumulator | null = null;
  for await (const { probabilities, labels } of predictions) {
    accumulator ??= new MetricsAccumulator(probabilities.length);
    if (probabilities.length !== accumulator.numClasses) {
      const details = { expected: accumulator.numClasses, found: probabilities.length };
      throw new NextvladError("BAD_USAGE", "the predictions have different numbers of classes", details);
    }
    accumulator.add(probabilities, [Int32Array.from(new Set(labels))]);
  }
  if (accumulator === null) throw new NextvladError("TOO_FEW_VIDEOS", "cannot compute metrics without predictions");
  checkLabeled(accumulator, "predictions", warningLog);
  const { hit_at_one, perr, gap, map, aps, videos, videos_without_labels } = accumulator.result();
  return { hitAtOne: hit_at_one, perr, gap, map, averagePrecisions: aps, videos, videosWithoutLabels: videos_without_labels };
}
