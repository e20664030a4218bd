import type { RunState } from "../checkpoints/snapshot.js";

/** A validation metric that decides which snapshot is the best, and when a run stops early. */
export interface Watched {
  readonly metric: "gap" | "map";
  readonly value: number;
}

/** Returns the state of early stopping after a validation: the highest value so far, and the number of validations since. Another metric starts again. */
export function afterValidation(before: RunState["early_stopping"], { metric, value }: Watched): NonNullable<RunState["early_stopping"]> {
  if (before === undefined || before.metric !== metric || value > before.best) return { metric, best: value, since: 0 };
  return { ...before, since: before.since + 1 };
}

/** Returns why a run stops early, in words; null if it does not. */
export function describeEarlyStop(patience: number | null, run: RunState): string | null {
  const { early_stopping: state } = run;
  if (state === undefined || !stopsEarly(patience, run)) return null;
  const metric = state.metric === "map" ? "mAP" : "GAP";
  const validations = state.since === 1 ? "the last validation has" : `the last ${state.since} validations have`;
  return `${validations} not raised the ${metric} above ${state.best.toFixed(4)} (--early-stop ${patience})`;
}

/** Returns whether the last `patience` validations have not raised the metric; null never stops. */
export function stopsEarly(patience: number | null, { early_stopping: state }: RunState): boolean {
  return patience !== null && state !== undefined && state.since >= patience;
}
