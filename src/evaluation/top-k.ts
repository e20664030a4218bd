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
  /** NaN, which nothing is below, as long as too few rows are known. */
  score = Number.NaN;
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

/** Up to so many highest scores are kept in order one by one; with more, sorting the whole row is quicker. */
const MOST_INSERTED = 1024;

/**
 * Selects the highest scores of rows, one row after another, in buffers that it keeps: what `scores` and `classes` hold is
 * good until the next `select`. One pass with a sorted list of the best so far, so nearly every class costs one comparison with its last.
 * Each class that enters the list costs as much as 50 others, and most would enter early, while the list's last is low; so the list begins
 * with scores above those that did not suffice in rows before. A row that has too few of them, about one in 25, is gone through once more.
 */
export class TopSelector {
  /** The scores selected last, falling; only the first k count. */
  scores = new Float32Array(MOST_INSERTED);
  /** Their classes. */
  classes = new Int32Array(MOST_INSERTED);
  #floor = new Floor(0);

  /**
   * Selects from `values[start .. start + numClasses]`, the row `start / numClasses` of a `[videos, classes] float32` block, and returns
   * how many it selected: k, or all classes where there are fewer. Throws NOT_FINITE at a NaN, which has no rank.
   */
  select(values: Float32Array, start: number, numClasses: number, k: number): number {
    const kept = Math.min(k, numClasses);
    const end = start + numClasses;
    if (kept === 0) return 0;
    if (kept > MOST_INSERTED) {
      this.#sort(values.subarray(start, end), start / numClasses);
      return kept;
    }
    if (kept !== this.#floor.k) this.#floor = new Floor(kept);
    const enough = this.#insertAbove(this.#floor.score, values, start, end, kept);
    if (!enough) this.#insertAbove(Number.NaN, values, start, end, kept);
    this.#floor.note(this.scores[kept - 1] as number);
    return kept;
  }

  /** Selects as `select` does, from a row by its number, into arrays of their own. */
  selectRow(values: Float32Array, row: number, numClasses: number, k: number): Top {
    const kept = this.select(values, row * numClasses, numClasses, k);
    return { scores: this.scores.slice(0, kept), classes: this.classes.slice(0, kept) };
  }

  /** Puts the highest scores above the floor into the list; false where they are fewer than `kept`. */
  #insertAbove(floor: number, values: Float32Array, start: number, end: number, kept: number): boolean {
    const { scores, classes } = this;
    let size = 0;
    let threshold = floor;
    for (let at = findAbove(values, start, end, floor); at < end; at = findAbove(values, at + 1, end, threshold)) {
      const score = values[at] as number;
      if (Number.isNaN(score)) throw notANumber(at - start, start / (end - start));
      if (size < kept) size++;
      insert(scores, classes, size - 1, score, at - start);
      if (size === kept) threshold = scores[kept - 1] as number;
    }
    return size === kept;
  }

  /** Puts the whole row into the list. */
  #sort(row: Float32Array, number: number): void {
    const nanAt = row.findIndex(Number.isNaN);
    if (nanAt >= 0) throw notANumber(nanAt, number);
    // Equal infinities have no difference: NaN, which leaves it to the classes as 0 does.
    const compare = (a: number, b: number): number => (row[b] as number) - (row[a] as number) || a - b;
    this.classes = Int32Array.from(row.keys()).sort(compare);
    this.scores = Float32Array.from(this.classes, (c) => row[c] as number);
  }
}

/** Puts a score into its place among the first `last` scores, which fall, and drops the one at `last`; behind equal ones, whose class is lower. */
function insert(scores: Float32Array, classes: Int32Array, last: number, score: number, c: number): void {
  let at = last;
  for (; at > 0; at--) {
    const above = scores[at - 1] as number;
    if (above >= score) break;
    scores[at] = above;
    classes[at] = classes[at - 1] as number;
  }
  scores[at] = score;
  classes[at] = c;
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

function notANumber(c: number, row: number): NextvladError {
  return new NextvladError("NOT_FINITE", `the prediction of class ${c} for video ${row} of the batch (from 0) is not a number`, {
    remedy: "the weights have diverged: go back to an earlier snapshot, and lower TRAIN.learning_rate or set TRAIN.gradient_clip",
  });
}
