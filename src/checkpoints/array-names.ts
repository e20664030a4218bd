import { parameterTable } from "../model/parameters.js";

/** The names do not depend on the sizes, as long as both modalities are present. */
const SIZES = { classes: 1, clusters: 1, groups: 1, expansion: 1, hidden: 1, gate: 1, videoFeatures: 1, audioFeatures: 1 };
const PARAMETERS: ReadonlySet<string> = new Set(parameterTable(SIZES).map(({ name }) => name));
const OF_ADAM = /_(moment[12]|beta[12]_pow_acc)_0$/;

/** The step counter of the learning rate schedule (fluid/layers/learning_rate_scheduler.py). */
export const STEP_COUNTER = "@LR_DECAY_COUNTER@";

/** Returns the parameter that one of Adam's arrays belongs to; null if the name is not one of Adam's arrays. */
export function adamParameter(name: string): string | null {
  const parameter = name.replace(OF_ADAM, "");
  return parameter !== name && PARAMETERS.has(parameter) ? parameter : null;
}

/** Returns whether weights and optimizer state may have an array of this name. */
export function isArrayName(name: string): boolean {
  return PARAMETERS.has(name) || adamParameter(name) !== null || name === STEP_COUNTER;
}
