/** Metrics over the ranking of all videos in each class, not only of each video's top classes. Macro averages; NaN if no class counts. */
export interface FullRanking {
  /** Mean of `aps` over the classes with positives. */
  readonly map: number;
  /** Mean of `aucs` over the classes with positives and negatives. */
  readonly mauc: number;
  /** sqrt(2) times the standard normal quantile of `mauc` (Hershey et al., CNN Architectures for Large-Scale Audio Classification, 2017). */
  readonly d_prime: number;
  /** Number of classes with positives. */
  readonly classes: number;
  /** Average precision of each class, as scikit-learn's average_precision_score; `[classes] float64`, NaN without positives. */
  readonly aps: Float64Array;
  /** Area under the ROC curve of each class, as scikit-learn's roc_auc_score; `[classes] float64`, NaN without positives or without negatives. */
  readonly aucs: Float64Array;
}

/** Opens the videos encoded by `ScoreRows`, from the first one: pieces of whole rows, each valid until the next one is requested. */
export type ReadRows = () => AsyncIterable<Int32Array>;

/** Clears the sign bit: the bits of floats of at least 0 compare like the floats. */
const WITHOUT_SIGN = 0x7fffffff;
/** Positives in memory at once, 16 bytes each: 270 MB. YouTube-8M has 3 per video. */
const MAX_POSITIVES = 2 ** 24;

/**
 * Computes the metrics over the full ranking of all videos. Reads the videos twice: first the scores of the positives, which stay in memory, then those of
 * the negatives, which are only counted between them. If there are more than `maxPositives`, it does so for one block of classes after another.
 * `positives`: `[classes]`, at least the number of positives of each class.
 */
export async function rankAll(read: ReadRows, positives: Float64Array, maxPositives = MAX_POSITIVES): Promise<FullRanking> {
  const [aps, aucs] = [new Float64Array(positives.length), new Float64Array(positives.length)];
  for (let first = 0; first < positives.length; ) {
    const block = new ClassBlock(positives, first, maxPositives);
    for await (const rows of read()) block.addPositives(rows);
    block.sortPositives();
    for await (const rows of read()) block.countNegatives(rows);
    block.measure(aps, aucs);
    first = block.end;
  }
  const mauc = meanOf(aucs);
  return {
    map: meanOf(aps),
    mauc,
    d_prime: Math.SQRT2 * normalQuantile(mauc),
    classes: aps.filter((ap) => !Number.isNaN(ap)).length,
    aps,
    aucs,
  };
}

/** Mean of the values that are not NaN; NaN if there are none. */
function meanOf(values: Float64Array): number {
  const counted = values.filter((value) => !Number.isNaN(value));
  return counted.reduce((sum, value) => sum + value, 0) / counted.length;
}

/** Consecutive classes with at most `maxPositives` positives, or one class. */
class ClassBlock {
  readonly #numClasses: number;
  readonly #first: number;
  /** The first class after the block. */
  readonly end: number;
  /** Index of each class's first threshold; it has room for one more than its positives. */
  readonly #starts: Int32Array;
  /** Number of distinct scores of each class's positives; while these are added, the number of positives. */
  readonly #sizes: Int32Array;
  /** Of each class: the distinct scores of its positives as bits, ascending. */
  readonly #thresholds: Int32Array;
  /** Number of positives with each threshold's score. */
  readonly #hits: Uint32Array;
  /**
   * Number of negatives for each threshold: first of those between it and the threshold below it, then of those with the same score. After a class's last
   * threshold, those above it.
   */
  readonly #negatives: Uint32Array;
  #videos = 0;

  constructor(positives: Float64Array, first: number, maxPositives: number) {
    let end = first;
    let sum = 0;
    const starts: number[] = [];
    do {
      starts.push(sum + starts.length);
      sum += positives[end] as number;
      end++;
    } while (end < positives.length && sum + (positives[end] as number) <= maxPositives);
    this.#numClasses = positives.length;
    this.#first = first;
    this.end = end;
    this.#starts = Int32Array.from(starts);
    this.#sizes = new Int32Array(starts.length);
    const slots = sum + starts.length;
    this.#thresholds = new Int32Array(slots);
    this.#hits = new Uint32Array(slots);
    this.#negatives = new Uint32Array(2 * slots);
  }

  addPositives(rows: Int32Array): void {
    const [numClasses, first, starts, sizes, thresholds] = [this.#numClasses, this.#first, this.#starts, this.#sizes, this.#thresholds];
    for (let row = first; row < rows.length; row += numClasses) {
      for (let c = 0; c < sizes.length; c++) {
        const bits = rows[row + c] as number;
        if (bits >= 0) continue;
        const count = sizes[c] as number;
        thresholds[(starts[c] as number) + count] = bits & WITHOUT_SIGN;
        sizes[c] = count + 1;
      }
    }
    this.#videos += rows.length / numClasses;
  }

  /** Sorts the scores of the positives and joins equal ones. */
  sortPositives(): void {
    for (let c = 0; c < this.#sizes.length; c++) {
      const start = this.#starts[c] as number;
      const sorted = this.#thresholds.subarray(start, start + (this.#sizes[c] as number)).sort();
      let distinct = 0;
      for (const bits of sorted) {
        if (distinct === 0 || sorted[distinct - 1] !== bits) sorted[distinct++] = bits;
        this.#hits[start + distinct - 1] = (this.#hits[start + distinct - 1] as number) + 1;
      }
      this.#sizes[c] = distinct;
    }
  }

  /** Counts each negative between the scores of the positives. Class by class, so that a class's thresholds stay in the processor's cache. */
  countNegatives(rows: Int32Array): void {
    const [numClasses, thresholds, negatives] = [this.#numClasses, this.#thresholds, this.#negatives];
    for (let c = 0; c < this.#sizes.length; c++) {
      const start = this.#starts[c] as number;
      const end = start + (this.#sizes[c] as number);
      if (start === end) continue;
      const lowest = thresholds[start] as number;
      for (let at = this.#first + c; at < rows.length; at += numClasses) {
        const bits = rows[at] as number;
        // A positive, or a negative below all of them, which no metric counts.
        if (bits < lowest) continue;
        let [low, high] = [start, end];
        while (low < high) {
          const middle = (low + high) >>> 1;
          if ((thresholds[middle] as number) < bits) low = middle + 1;
          else high = middle;
        }
        const slot = 2 * low + (low < end && thresholds[low] === bits ? 1 : 0);
        negatives[slot] = (negatives[slot] as number) + 1;
      }
    }
  }

  /** Stores the metrics of the block's classes at their indices. */
  measure(aps: Float64Array, aucs: Float64Array): void {
    for (let c = 0; c < this.#sizes.length; c++) {
      const { ap, auc } = this.#measureClass(this.#starts[c] as number, this.#sizes[c] as number);
      aps[this.#first + c] = ap;
      aucs[this.#first + c] = auc;
    }
  }

  /**
   * Goes through a class's thresholds from the highest: AP is the sum of the precision at each threshold times the recall it adds (scikit-learn,
   * average_precision_score), and AUC the share of the pairs of a positive and a negative in which the positive is higher; equal ones count half.
   */
  #measureClass(start: number, size: number): { readonly ap: number; readonly auc: number } {
    const [hits, counts] = [this.#hits, this.#negatives];
    const positives = hits.subarray(start, start + size).reduce((sum, count) => sum + count, 0);
    const negatives = this.#videos - positives;
    let truePositives = 0;
    let falsePositives = counts[2 * (start + size)] as number;
    let [precisions, pairs] = [0, 0];
    for (let at = start + size - 1; at >= start; at--) {
      const [hit, between, equal] = [hits[at] as number, counts[2 * at] as number, counts[2 * at + 1] as number];
      pairs += hit * (negatives - falsePositives - equal / 2);
      truePositives += hit;
      falsePositives += equal;
      precisions += hit * (truePositives / (truePositives + falsePositives));
      falsePositives += between;
    }
    return { ap: precisions / positives, auc: pairs / (positives * negatives) };
  }
}

/** Returns the x with Phi(x) = p, where Phi is the standard normal distribution function; infinite for 0 and 1. Its error is 1e-15 divided by the density at x. */
export function normalQuantile(p: number): number {
  if (Number.isNaN(p)) return p;
  if (p < 0.5) return -normalQuantile(1 - p);
  if (p === 1) return Number.POSITIVE_INFINITY;
  // Phi is concave here, so Newton's method approaches x from below and ends when rounding stops it.
  for (let x = 0; ; ) {
    const { below, density } = normalAt(x);
    const next = x + (p - below) / density;
    if (!(next > x)) return x;
    x = next;
  }
}

/** Phi(x) and its density, for x >= 0, by its series around 0 (Marsaglia, Evaluating the Normal Distribution, 2004). */
function normalAt(x: number): { readonly below: number; readonly density: number } {
  const density = Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  let [sum, before, term] = [x, 0, x];
  for (let n = 3; sum !== before; n += 2) {
    term *= (x * x) / n;
    before = sum;
    sum += term;
  }
  return { below: 0.5 + sum * density, density };
}
