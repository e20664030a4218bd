/** The middle of some values, and the ends of their range. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Of one value or more. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (index: number): number => sorted[index] as number;
  const upper = Math.floor(sorted.length / 2);
  const median = sorted.length % 2 === 1 ? at(upper) : (at(upper - 1) + at(upper)) / 2;
  return { median, min: at(0), max: at(sorted.length - 1) };
}

/** Ours over the fastest of the peers, pair by pair: on a shared machine only what ran one after the other compares. */
export function ratiosToFastest(ours: readonly number[], peers: readonly (readonly number[])[]): number[] {
  return ours.map((rate, pair) => rate / Math.max(...peers.map((rates) => rates[pair] as number)));
}
