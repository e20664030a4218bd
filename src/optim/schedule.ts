export interface ScheduleOptions {
  readonly learning_rate: number;
  readonly learning_rate_decay: number;
  readonly lr_boundary_examples: number;
  readonly batch_size: number;
}

/** Returns the learning rate of step `step` (from 0): learning_rate * decay^floor(step / floor(lr_boundary_examples / batch_size)) (PaddleVideo v1.5.1). */
export function learningRateAt(step: number, options: ScheduleOptions): number {
  const stepsPerDecay = Math.max(1, Math.floor(options.lr_boundary_examples / options.batch_size));
  return options.learning_rate * options.learning_rate_decay ** Math.floor(step / stepsPerDecay);
}

/** Below this learning rate, float32 rounds most updates to zero: Adam's update is about the rate, and a weight of 0.01 changes by 9e-10 or not at all. */
const MIN_LEARNING_RATE = 1e-9;

/** Returns a warning if the learning rate is too small to change float32 weights, or null. */
export function describeTinyRate(step: number, options: ScheduleOptions): string | null {
  const rate = learningRateAt(step, options);
  if (rate >= MIN_LEARNING_RATE) return null;
  const remedy =
    options.learning_rate < MIN_LEARNING_RATE
      ? "raise TRAIN.learning_rate (the published recipe uses 0.0002)"
      : "end the run earlier (TRAIN.epoch), or raise TRAIN.learning_rate_decay or TRAIN.lr_boundary_examples";
  return `the learning rate of step ${step} is ${rate}: in float32, updates this small leave most weights unchanged; ${remedy}`;
}
