/** The keys of config section TRAIN that set the learning rate of each step. */
export interface ScheduleOptions {
  readonly lr_schedule: "step" | "cosine";
  readonly learning_rate: number;
  readonly learning_rate_decay: number;
  readonly lr_boundary_examples: number;
  readonly warmup_examples: number;
  readonly batch_size: number;
  readonly epoch: number;
  readonly max_iter: number;
}

/**
 * Returns the learning rate of step `step` (from 0), the product of the schedule's rate and the warm-up's factor min(1, (step + 1) batch_size / warmup_examples).
 * - step: learning_rate * decay^floor(step / floor(lr_boundary_examples / batch_size)) (PaddleVideo v1.5.1)
 * - cosine: learning_rate (1 + cos(pi step / steps)) / 2, of `countSteps` steps (arXiv:1608.03983, without restarts)
 *
 * `videos`: the videos of an epoch, see `countSteps`.
 */
export function learningRateAt(step: number, options: ScheduleOptions, videos: number | null): number {
  const rate = options.lr_schedule === "cosine" ? cosineRate(step, options, videos) : steppedRate(step, options);
  const { warmup_examples: warmup, batch_size: batchSize } = options;
  // Without warm-up, the quotient is Infinity.
  return rate * Math.min(1, ((step + 1) * batchSize) / warmup);
}

function steppedRate(step: number, { learning_rate, learning_rate_decay, lr_boundary_examples, batch_size }: ScheduleOptions): number {
  const stepsPerDecay = Math.max(1, Math.floor(lr_boundary_examples / batch_size));
  return learning_rate * learning_rate_decay ** Math.floor(step / stepsPerDecay);
}

function cosineRate(step: number, options: ScheduleOptions, videos: number | null): number {
  const done = Math.min(1, step / Math.max(1, countSteps(options, videos)));
  return (options.learning_rate * (1 + Math.cos(Math.PI * done))) / 2;
}

/** Returns the number of steps of a run: those of all epochs, of `videos` videos each, or max_iter if that is less or the videos of an epoch are unknown (null). */
export function countSteps({ batch_size, epoch, max_iter }: ScheduleOptions, videos: number | null): number {
  return videos === null ? max_iter : Math.min(max_iter, epoch * Math.floor(videos / batch_size));
}

/** Below this learning rate, float32 rounds most updates to zero: Adam's update is about the rate, and a weight of 0.01 changes by 9e-10 or not at all. */
const MIN_LEARNING_RATE = 1e-9;

/** Returns a warning if the learning rate, but for warm-up and the end of a cosine, is too small to change float32 weights, or null. */
export function describeTinyRate(step: number, options: ScheduleOptions): string | null {
  const rate = options.lr_schedule === "cosine" ? options.learning_rate : steppedRate(step, options);
  if (rate >= MIN_LEARNING_RATE) return null;
  const remedy =
    options.learning_rate < MIN_LEARNING_RATE
      ? "raise TRAIN.learning_rate (the published recipe uses 0.0002)"
      : "end the run earlier (TRAIN.epoch), or raise TRAIN.learning_rate_decay or TRAIN.lr_boundary_examples";
  return `the learning rate of step ${step} is ${rate}: in float32, updates this small leave most weights unchanged; ${remedy}`;
}
