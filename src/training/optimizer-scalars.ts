import type { HostArray } from "../checkpoints/host-arrays.js";
import { BETA1, BETA2 } from "../optim/adam.js";
import { learningRateAt, type ScheduleOptions } from "../optim/schedule.js";

/**
 * What Paddle's Adam saves besides the moments after `step` steps: beta^(step + 1) of each parameter, the learning rate of the last step, and
 * the counter behind it, which is -1 before the first step and so step - 1 (fluid/layers, autoincreased_step_counter, begin 0). Each `[1]`.
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
