import type { Top } from "../evaluation/top-k.js";
import type { Prediction } from "../results/result-codecs.js";

/** Minimum sum of weights at which products of weights and float32 scores have full float64 precision. */
const MIN_TOTAL = 2 ** -800;

/** Averages predictions for a video over all classes that any of them contains; a class that is missing from a prediction counts as 0 in it. */
export class Averager {
  readonly #weights: readonly number[];
  readonly #total: number;
  readonly #sums = new Map<number, number>();

  /**
   * `weights`: one finite weight per prediction, at least 0, and not all 0. They need not add up to 1: each counts by its share of the sum, even if the sum
   * overflows float64 or the weights are so small that products with them lose digits.
   */
  constructor(weights: readonly number[]) {
    const total = sumOf(weights);
    const scale = total >= MIN_TOTAL && Number.isFinite(total) ? 1 : Math.max(...weights);
    this.#weights = weights.map((weight) => weight / scale);
    this.#total = sumOf(this.#weights);
  }

  /** Returns the averages, computed in float64 and rounded to float32, in descending order; equal ones by class, lower first. */
  average(predictions: readonly Pick<Prediction, "scores" | "classes">[]): Top {
    const sums = this.#sums;
    sums.clear();
    for (const [i, { scores, classes }] of predictions.entries()) {
      const weight = this.#weights[i] as number;
      for (let rank = 0; rank < classes.length; rank++) {
        const c = classes[rank] as number;
        sums.set(c, (sums.get(c) ?? 0) + weight * (scores[rank] as number));
      }
    }
    for (const [c, sum] of sums) sums.set(c, Math.fround(sum / this.#total));
    const classes = Int32Array.from(sums.keys()).sort((a, b) => (sums.get(b) as number) - (sums.get(a) as number) || a - b);
    return { classes, scores: Float32Array.from(classes, (c) => sums.get(c) as number) };
  }
}

function sumOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}
