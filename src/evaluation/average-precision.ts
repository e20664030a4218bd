import type { PredictionList } from "./prediction-list.js";

/** Average precision over all predictions (`pooled`) and for each class. */
export interface AveragePrecisions {
  readonly pooled: number;
  /** `[classes] float64`; 0 for a class without positives. */
  readonly perClass: Float64Array;
}

/**
 * Computes the non-interpolated average precision: ranks predictions by descending score, sums the precision at each hit, and divides by the number of true
 * labels, including those that were never predicted (google/youtube-8m, average_precision_calculator.py). `positives`: `[classes] float64`, the number of true
 * labels of each class.
 * The predictions of a class keep their order in the pooled ranking, so one pass over it serves all classes.
 */
export function averagePrecisions(predictions: PredictionList, positives: Float64Array): AveragePrecisions {
  const ranking = predictions.rank(positives.length);
  const perClass = new Float64Array(positives.length);
  const seen = new Float64Array(positives.length);
  const found = new Float64Array(positives.length);
  let pooled = 0;
  let pooledFound = 0;
  for (let rank = 0; rank < ranking.length; rank++) {
    const tag = ranking[rank] as number;
    const c = tag >>> 1;
    const rankInClass = (seen[c] as number) + 1;
    seen[c] = rankInClass;
    if ((tag & 1) === 0) continue;
    const foundInClass = (found[c] as number) + 1;
    found[c] = foundInClass;
    perClass[c] = (perClass[c] as number) + foundInClass / rankInClass;
    pooledFound++;
    pooled += pooledFound / (rank + 1);
  }
  let total = 0;
  for (let c = 0; c < positives.length; c++) {
    const count = positives[c] as number;
    total += count;
    if (count > 0) perClass[c] = (perClass[c] as number) / count;
  }
  return { pooled: total > 0 ? pooled / total : 0, perClass };
}
