import { NextvladError } from "../base/errors.js";

/** The highest scores of one row and their classes: falling, equal scores by the lower class first. */
export interface Top {
  /** `[k] float32`. */
  readonly scores: Float32Array;
  /** `[k] int32`. */
  readonly classes: Int32Array;
}

/** How many rows a floor is taken from. */
const FLOOR_ROWS = 16;

/** The lowest k-th highest score of some rows before: the next row's is seldom below it. */
class Floor {
  /** What nothing can be below, as long as no rows are known. */
  score = Number.NEGATIVE_INFINITY;
  readonly k: number;
  #lowest = Number.POSITIVE_INFINITY;
  #rows = 0;

  constructor(k: number) {
    this.k = k;
  }

  note(kthScore: number): void {
    this.score = Math.min(this.score, kthScore);
    this.#lowest = Math.min(this.#lowest, kthScore);
    this.#rows++;
    if (this.#rows < FLOOR_ROWS) return;
    this.score = this.#lowest;
    this.#lowest = Number.POSITIVE_INFINITY;
    this.#rows = 0;
  }
}

/**
 * Selects the highest scores of rows, one row after another, in buffers that it keeps: what `scores` and `classes` hold is
 * good until the next `select`. One pass with a heap whose root is the worst score kept, so nearly every class costs one comparison.
 * Each class that enters the heap costs as much as 50 others, and most enter early, while the root is low; so the heap is filled
 * with scores above those that did not suffice in rows before. A row that has too few of them, about one in 25, is gone through once more.
 */
export class TopSelector {
  /** The scores selected last, falling; only the first k count. */
  scores = new Float32Array(32);
  /** Their classes. */
  classes = new Int32Array(32);
  #floor = new Floor(0);

  /**
   * Selects from `values[start .. start + numClasses]`, the row `start / numClasses` of a `[videos, classes] float32` block, and returns
   * how many it selected: k, or all classes where there are fewer. Throws NOT_FINITE at a NaN, which has no rank.
   */
  select(values: Float32Array, start: number, numClasses: number, k: number): number {
    const kept = Math.min(k, numClasses);
    if (kept === 0) return 0;
    if (kept > this.scores.length) this.#grow(kept);
    if (kept !== this.#floor.k) this.#floor = new Floor(kept);
    const { scores, classes } = this;
    const end = start + numClasses;
    const filled = this.#fillAboveFloor(values, start, end, kept) ?? this.#fill(values, start, end, kept);
    for (let at = (kept >> 1) - 1; at >= 0; at--) sink(scores, classes, at, kept, scores[at] as number, classes[at] as number);
    let at = findAbove(values, filled, end, scores[0] as number);
    while (at < end) {
      sink(scores, classes, 0, kept, scoreAt(values, at, start, end), at - start);
      at = findAbove(values, at + 1, end, scores[0] as number);
    }
    this.#floor.note(scores[0] as number);
    for (let last = kept - 1; last > 0; last--) {
      const score = scores[last] as number;
      const c = classes[last] as number;
      scores[last] = scores[0] as number;
      classes[last] = classes[0] as number;
      sink(scores, classes, 0, last, score, c);
    }
    return kept;
  }

  /** Selects as `select` does, from a row by its number, into arrays of their own. */
  selectRow(values: Float32Array, row: number, numClasses: number, k: number): Top {
    const kept = this.select(values, row * numClasses, numClasses, k);
    return { scores: this.scores.slice(0, kept), classes: this.classes.slice(0, kept) };
  }

  /** Takes the first `kept` scores; returns the index behind the last. */
  #fill(values: Float32Array, start: number, end: number, kept: number): number {
    for (let c = 0; c < kept; c++) {
      this.scores[c] = scoreAt(values, start + c, start, end);
      this.classes[c] = c;
    }
    return start + kept;
  }

  /** Takes the first `kept` scores above the floor; returns the index behind the last, null where the row has fewer. */
  #fillAboveFloor(values: Float32Array, start: number, end: number, kept: number): number | null {
    const floor = this.#floor.score;
    if (floor === Number.NEGATIVE_INFINITY) return null;
    let at = start - 1;
    for (let size = 0; size < kept; size++) {
      at = findAbove(values, at + 1, end, floor);
      if (at === end) return null;
      this.scores[size] = scoreAt(values, at, start, end);
      this.classes[size] = at - start;
    }
    return at + 1;
  }

  #grow(size: number): void {
    this.scores = new Float32Array(size);
    this.classes = new Int32Array(size);
  }
}

function scoreAt(values: Float32Array, at: number, start: number, end: number): number {
  const score = values[at] as number;
  if (!Number.isNaN(score)) return score;
  const message = `the prediction of class ${at - start} for video ${start / (end - start)} of the batch (from 0) is not a number`;
  throw new NextvladError("NOT_FINITE", message, {
    remedy: "the weights have diverged: go back to an earlier snapshot, and lower TRAIN.learning_rate or set TRAIN.gradient_clip",
  });
}

/**
 * Index of the first value from `from` on that is above the threshold, or a NaN (which is not below it either); `end` if there is none.
 * Four values a turn: 0.9 ns a value where one a turn takes 1.1.
 */
function findAbove(values: Float32Array, from: number, end: number, threshold: number): number {
  let at = from;
  for (; at + 4 <= end; at += 4) {
    if (!((values[at] as number) <= threshold)) return at;
    if (!((values[at + 1] as number) <= threshold)) return at + 1;
    if (!((values[at + 2] as number) <= threshold)) return at + 2;
    if (!((values[at + 3] as number) <= threshold)) return at + 3;
  }
  for (; at < end; at++) {
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
