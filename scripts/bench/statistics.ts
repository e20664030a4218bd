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

/** Formats a spread as `1.71 (1.65..1.80)`. */
export function formatSpread({ median, min, max }: Spread, digits: number): string {
  return `${median.toFixed(digits)} (${min.toFixed(digits)}..${max.toFixed(digits)})`;
}

/** Formats a spread of fractions in percent, as `97.1 (96.2..98.0)`. */
export function formatPercent({ median, min, max }: Spread): string {
  return formatSpread({ median: 100 * median, min: 100 * min, max: 100 * max }, 1);
}

/** Returns the ratio of our rate to the fastest peer's for each pair: on a shared machine only consecutive measurements are comparable. */
export function ratiosToFastest(ours: readonly number[], peers: readonly (readonly number[])[]): number[] {
  return ours.map((rate, pair) => rate / Math.max(...peers.map((rates) => rates[pair] as number)));
}
