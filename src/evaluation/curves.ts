/** Precision at increasing recall; three arrays of the same length, at most `MAX_POINTS`. */
export interface PrecisionRecall {
  /** Share of all labels that are among the predictions with at least the threshold's probability. */
  readonly recall: readonly number[];
  /** Share of these predictions that are labels. */
  readonly precision: readonly number[];
  /** The lowest probability of these predictions. */
  readonly threshold: readonly number[];
}

/** The predictions with probabilities from `from` to `to`; the last bin includes 1. */
export interface CalibrationBin {
  readonly from: number;
  readonly to: number;
  readonly predictions: number;
  /** Mean of their probabilities; null for an empty bin. */
  readonly mean_probability: number | null;
  /** Share of them that are labels; null for an empty bin. */
  readonly hit_share: number | null;
}

/** Curves over the pooled top predictions of all videos, as GAP. */
export interface Curves {
  readonly precision_recall: PrecisionRecall;
  readonly calibration: readonly CalibrationBin[];
}

const LEVELS = 200;
/** The first prediction, one point for each level of recall that is reached, and the last prediction. */
export const MAX_POINTS = LEVELS + 2;
const BINS = 20;

/**
 * Computes the curves. `ranking`: `2 * class + hit` of all predictions by descending score (`PredictionList.rank`); `ascending`: their scores in ascending
 * order; `positives`: the number of all labels.
 */
export function computeCurves(ranking: Uint32Array, ascending: Float32Array, positives: number): Curves {
  const points = { recall: [] as number[], precision: [] as number[], threshold: [] as number[] };
  const bins = Array.from({ length: BINS }, () => ({ predictions: 0, sum: 0, hits: 0 }));
  let found = 0;
  let nextLevel = 0;
  for (let rank = 0; rank < ranking.length; rank++) {
    const score = ascending[ranking.length - 1 - rank] as number;
    const hit = (ranking[rank] as number) & 1;
    found += hit;
    const bin = bins[Math.min(BINS - 1, Math.floor(score * BINS))] as (typeof bins)[number];
    bin.predictions++;
    bin.sum += score;
    bin.hits += hit;
    const level = Math.floor((LEVELS * found) / positives);
    if (level < nextLevel && rank > 0 && rank < ranking.length - 1) continue;
    points.recall.push(found / positives);
    points.precision.push(found / (rank + 1));
    points.threshold.push(score);
    nextLevel = level + 1;
  }
  const calibration = bins.map(({ predictions, sum, hits }, i) => ({
    from: i / BINS,
    to: (i + 1) / BINS,
    predictions,
    mean_probability: predictions === 0 ? null : sum / predictions,
    hit_share: predictions === 0 ? null : hits / predictions,
  }));
  return { precision_recall: points, calibration };
}
