/** Predictions of many videos pooled, in the order the videos came; all three arrays are equally long. */
export interface PooledPredictions {
  readonly scores: Float32Array;
  readonly classes: Int32Array;
  /** 1 where the video has the class among its labels, else 0. */
  readonly hits: Uint8Array;
}

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
export function averagePrecisions(predictions: PooledPredictions, positives: Float64Array): AveragePrecisions {
  const { classes, hits } = predictions;
  const ranking = rankFalling(predictions.scores, classes, positives.length);
  const perClass = new Float64Array(positives.length);
  const seen = new Float64Array(positives.length);
  const found = new Float64Array(positives.length);
  let pooled = 0;
  let pooledFound = 0;
  for (let rank = 0; rank < ranking.length; rank++) {
    const at = ranking[rank] as number;
    const c = classes[at] as number;
    const rankInClass = (seen[c] as number) + 1;
    seen[c] = rankInClass;
    if (hits[at] === 0) continue;
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

/** Indices of the predictions by falling score; equal scores by the lower class, then in the order they came. */
function rankFalling(scores: Float32Array, classes: Int32Array, numClasses: number): Uint32Array {
  const size = scores.length;
  const keys = fallingKeys(scores);
  let order = new Uint32Array(size);
  for (let i = 0; i < size; i++) order[i] = i;
  let spare = new Uint32Array(size);
  const passes: readonly [buckets: number, digit: (i: number) => number][] = [
    [numClasses, (i) => classes[i] as number],
    [1 << 16, (i) => (keys[i] as number) & 0xffff],
    [1 << 16, (i) => (keys[i] as number) >>> 16],
  ];
  for (const [buckets, digit] of passes) {
    countingSort(order, spare, buckets, digit);
    [order, spare] = [spare, order];
  }
  return order;
}

/** Whole numbers that rise as the scores fall: the bits of a float32 in their numeric order, upside down. */
function fallingKeys(scores: Float32Array): Uint32Array {
  const keys = new Uint32Array(scores.length);
  const asFloats = new Float32Array(keys.buffer);
  for (let i = 0; i < keys.length; i++) {
    // Adding 0 makes -0 into 0, its equal.
    asFloats[i] = (scores[i] as number) + 0;
    const bits = keys[i] as number;
    keys[i] = bits >>> 31 === 0 ? ~bits & 0x7fffffff : bits;
  }
  return keys;
}

/** One stable pass of a radix sort: moves the indices `from` into `to`, by rising digit. */
function countingSort(from: Uint32Array, to: Uint32Array, buckets: number, digit: (i: number) => number): void {
  const next = new Uint32Array(buckets + 1);
  for (let i = 0; i < from.length; i++) {
    const bucket = digit(from[i] as number) + 1;
    next[bucket] = (next[bucket] as number) + 1;
  }
  for (let bucket = 1; bucket <= buckets; bucket++) next[bucket] = (next[bucket] as number) + (next[bucket - 1] as number);
  for (let i = 0; i < from.length; i++) {
    const index = from[i] as number;
    const bucket = digit(index);
    const at = next[bucket] as number;
    next[bucket] = at + 1;
    to[at] = index;
  }
}
