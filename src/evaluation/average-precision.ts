import type { PredictionList } from "./prediction-list.js";

/** Average precision over everything (`pooled`) and for each class. */
export interface AveragePrecisions {
  readonly pooled: number;
  /** `[classes] float64`; 0 for a class without positives. */
  readonly perClass: Float64Array;
}

/**
 * Non-interpolated average precision: rank by falling score, sum the precision at each hit, divide by the number of true labels, where
 * those that were never predicted count too (google/youtube-8m, average_precision_calculator.py). `positives`, `[classes]`, holds the true labels of each class.
 * A class's predictions keep their order when ranked alone, so one walk down the pooled ranking serves all classes.
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
