import type { Top } from "../evaluation/top-k.js";
import type { Prediction } from "../results/prediction.js";

/** Averages of the predictions for a video: all classes that any of them has, one that a prediction lacks counting 0 in it. */
export class Averager {
  readonly #weights: readonly number[];
  readonly #total: number;
  readonly #sums = new Map<number, number>();

  /** One weight for each prediction, none below 0, one above. They need not add up to 1: what counts is their share of the sum. */
  constructor(weights: readonly number[]) {
    this.#weights = weights;
    this.#total = weights.reduce((sum, weight) => sum + weight, 0);
  }

  /** The averages, taken in float64 and rounded to float32: falling, equal ones by the lower class. */
  average(predictions: readonly Pick<Prediction, "scores" | "classes">[]): Top {
    const sums = this.#sums;
    sums.clear();
    for (const [i, { scores, classes }] of predictions.entries()) {
      const weight = this.#weights[i] as number;
      for (const [rank, c] of classes.entries()) sums.set(c, (sums.get(c) ?? 0) + weight * (scores[rank] as number));
    }
    for (const [c, sum] of sums) sums.set(c, Math.fround(sum / this.#total));
    const classes = Int32Array.from(sums.keys()).sort((a, b) => (sums.get(b) as number) - (sums.get(a) as number) || a - b);
    return { classes, scores: Float32Array.from(classes, (c) => sums.get(c) as number) };
  }
}
