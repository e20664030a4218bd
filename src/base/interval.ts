/** How often a pass over videos saves or logs: every `steps` steps (0: never), or every `ms` milliseconds. */
export type Interval = { readonly steps: number } | { readonly ms: number };

/** How often training validates: every `epochs` epochs (0: never), or every `steps` steps. */
export type ValidationInterval = { readonly epochs: number } | { readonly steps: number };

/** Returns whether training validates at all. */
export function isSet(interval: ValidationInterval): boolean {
  return "steps" in interval || interval.epochs > 0;
}

/** Returns whether an interval has ended at step `step`, `elapsedMs` after the last time. */
export function isDue(interval: Interval, step: number, elapsedMs: number): boolean {
  if ("ms" in interval) return elapsedMs >= interval.ms;
  // Any step % 0 is NaN.
  return step % interval.steps === 0;
}
