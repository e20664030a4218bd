import type { Config } from "../config/schema.js";
import type { World } from "../distributed/world.js";
import { multiply } from "../kernels/tensorflow-ops.js";
import { WeightStore } from "../model/weights.js";
import { constant } from "../runtime/constants.js";
import { tidy } from "../runtime/tensor.js";

/**
 * The exponential moving average of a model's weights over the steps of a run: ema = decay ema + (1 - decay) w after each step, in place. It begins with the
 * weights before the first step. Moving statistics are averaged too: the mean and variance of a layer that has averaged weights are closer to the averages of the
 * means and variances at those steps than to the last ones, and the average has less noise.
 */
export class WeightAverage {
  /** The averages; a rank has the same rows of them as of the weights. */
  readonly store: WeightStore;
  readonly #weights: WeightStore;
  readonly #decay: number;

  /** The averages have no values before `start`, unless they are uploaded to `store`. */
  constructor(weights: WeightStore, decay: number, world: World) {
    this.store = new WeightStore(weights.table, world);
    this.#weights = weights;
    this.#decay = decay;
  }

  /** Sets the averages to the current weights. */
  start(): void {
    for (const { name } of this.store.table) {
      const variable = this.store.variable(name);
      // A copy on the device.
      tidy(() => this.#weights.use(name, (w) => variable.assign(multiply(w, constant(1)))));
    }
  }

  /** Adds the weights after a step to the averages. */
  update(): void {
    for (const { name, initializer } of this.store.table) {
      // eigen_param is a constant, which rounding would change.
      if (initializer === "eigen") continue;
      this.#weights.use(name, (w) => this.store.variable(name).blend(w, this.#decay));
    }
  }

  /** Returns the share of the initial weights in the averages after `steps` steps. */
  initialShare(steps: number): number {
    return this.#decay ** steps;
  }
}

/** Returns the average that a config asks for, without values; null for none. */
export function createAverage({ TRAIN }: Config, weights: WeightStore, world: World): WeightAverage | null {
  return TRAIN.ema_decay === null ? null : new WeightAverage(weights, TRAIN.ema_decay, world);
}
