import type { HostArray } from "../checkpoints/weight-source.js";
import { BETA1, BETA2 } from "../optim/adam.js";
import { learningRateAt, type ScheduleOptions } from "../optim/schedule.js";

/**
 * Returns what Paddle's Adam saves after `step` steps besides the moments: beta^(step + 1) of each parameter, the learning rate of the last step, and its
 * counter, step - 1, which is -1 before the first step (fluid/layers, autoincreased_step_counter, begin 0). Each is `[1]`.
 */
export function optimizerScalars(step: number, trained: readonly string[], schedule: ScheduleOptions): readonly HostArray[] {
  const scalar = (name: string, value: number): HostArray => ({ name, shape: [1], data: Float32Array.of(value) });
  const powers = trained.flatMap((name) => [
    scalar(`${name}_beta1_pow_acc_0`, BETA1 ** (step + 1)),
    scalar(`${name}_beta2_pow_acc_0`, BETA2 ** (step + 1)),
  ]);
  const rate = scalar("learning_rate", learningRateAt(Math.max(0, step - 1), schedule));
  return [...powers, rate, { name: "@LR_DECAY_COUNTER@", shape: [1], data: BigInt64Array.of(BigInt(step - 1)) }];
}
