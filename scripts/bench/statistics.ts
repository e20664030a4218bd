/** Median and range of some values. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Returns the spread of one or more values. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (index: number): number => sorted[index] as number;
  const upper = Math.floor(sorted.length / 2);
  const median = sorted.length % 2 === 1 ? at(upper) : (at(upper - 1) + at(upper)) / 2;
  return { median, min: at(0), max: at(sorted.length - 1) };
}

/** Returns the ratio of our rate to the fastest peer's for each pair: on a shared machine only consecutive measurements are comparable. */
export function ratiosToFastest(ours: readonly number[], peers: readonly (readonly number[])[]): number[] {
  return ours.map((rate, pair) => rate / Math.max(...peers.map((rates) => rates[pair] as number)));
}
