import { isDue } from "../base/interval.js";
import type { WeightStore } from "../model/weights.js";
import type { StoredArray } from "../runtime/variables.js";
import { announce } from "./ranks.js";
import type { Training } from "./start.js";

/** Writes a histogram of each trained parameter, before a step that `histogramIntervalSteps` divides. */
export function recordHistogramsIfDue({ options, state, scalars, stepOptions }: Training): void {
  const { step } = state.run;
  if (!isDue({ steps: options.histogramIntervalSteps }, step, 0)) return;
  announce(stepOptions.division.world, "histograms");
  for (const { name, download } of trainedArrays(state.store)) scalars.histogram(step, `parameters/${name}`, download());
}

/** Other ranks: sends this rank's rows to rank 0, which writes histograms. */
export function sendRows(store: WeightStore): void {
  for (const { isDivided, download } of trainedArrays(store)) if (isDivided) download();
}

function trainedArrays(store: WeightStore): readonly StoredArray[] {
  return store.arrays().filter(({ name }) => store.parameter(name).trained);
}
