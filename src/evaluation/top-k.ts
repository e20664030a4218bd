import { NextvladError } from "../base/errors.js";

/** The highest scores of one row and their classes: falling, equal scores by the lower class first. */
export interface Top {
  /** `[k] float32`. */
  readonly scores: Float32Array;
  /** `[k] int32`. */
  readonly classes: Int32Array;
}

/**
 * Selects the highest scores of rows, one row after another, in buffers that it keeps: what `scores` and `classes` hold is
 * good until the next `select`. One pass with a heap whose root
 * is the worst score kept, so nearly every class costs one comparison; that comparison is in a function of its own because V8 compiles it four times as fast there.
 */
export class TopSelector {
  /** The scores selected last, falling; only the first k count. */
  scores = new Float32Array(32);
  /** Their classes. */
  classes = new Int32Array(32);

  /**
   * Selects from `values[start .. start + numClasses]`, the row `start / numClasses` of a `[videos, classes] float32` block, and returns
   * how many it selected: k, or all classes where there are fewer. Throws NOT_FINITE at a NaN, which has no rank.
   */
  select(values: Float32Array, start: number, numClasses: number, k: number): number {
    const kept = Math.min(k, numClasses);
    if (kept === 0) return 0;
    if (kept > this.scores.length) this.#grow(kept);
    const { scores, classes } = this;
    for (let c = 0; c < kept; c++) {
      const score = values[start + c] as number;
      if (Number.isNaN(score)) throw notANumber(c, start / numClasses);
      scores[c] = score;
      classes[c] = c;
    }
    for (let at = (kept >> 1) - 1; at >= 0; at--) sink(scores, classes, at, kept, scores[at] as number, classes[at] as number);
    const end = start + numClasses;
    let at = findAbove(values, start + kept, end, scores[0] as number);
    while (at < end) {
      const score = values[at] as number;
      if (Number.isNaN(score)) throw notANumber(at - start, start / numClasses);
      sink(scores, classes, 0, kept, score, at - start);
      at = findAbove(values, at + 1, end, scores[0] as number);
    }
    for (let last = kept - 1; last > 0; last--) {
      const score = scores[last] as number;
      const c = classes[last] as number;
      scores[last] = scores[0] as number;
      classes[last] = classes[0] as number;
      sink(scores, classes, 0, last, score, c);
    }
    return kept;
  }

  #grow(size: number): void {
    this.scores = new Float32Array(size);
    this.classes = new Int32Array(size);
  }
}

/** Index of the first value from `from` on that is above the threshold, or a NaN (which is not below it either); `end` if there is none. */
function findAbove(values: Float32Array, from: number, end: number, threshold: number): number {
  for (let at = from; at < end; at++) {
    if (!((values[at] as number) <= threshold)) return at;
  }
  return end;
}

/** Puts a score in at `at` and lets it sink below every worse one in the first `size` places of the heap. */
function sink(scores: Float32Array, classes: Int32Array, from: number, size: number, score: number, c: number): void {
  let at = from;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= size) break;
    let childScore = scores[child] as number;
    if (child + 1 < size) {
      const right = scores[child + 1] as number;
      if (right < childScore || (right === childScore && (classes[child + 1] as number) > (classes[child] as number))) {
        child++;
        childScore = right;
      }
    }
    if (childScore > score || (childScore === score && (classes[child] as number) < c)) break;
    scores[at] = childScore;
    classes[at] = classes[child] as number;
    at = child;
  }
  scores[at] = score;
  classes[at] = c;
}

function notANumber(c: number, row: number): NextvladError {
  return new NextvladError("NOT_FINITE", `the prediction of class ${c} for video ${row} of the batch (from 0) is not a number`, {
    remedy: "the weights have diverged: go back to an earlier snapshot, and lower TRAIN.learning_rate or set TRAIN.gradient_clip",
  });
}

/** The k highest scores of one row of `[videos, classes] float32`, in arrays of their own. Throws NOT_FINITE at a NaN. */
export function selectTop(values: Float32Array, k: number, row = 0, numClasses = values.length): Top {
  const selector = new TopSelector();
  const kept = selector.select(values, row * numClasses, numClasses, k);
  return { scores: selector.scores.slice(0, kept), classes: selector.classes.slice(0, kept) };
}
