import { multiply } from "../kernels/tensorflow-ops.js";
import type { BatchNormNames } from "../model/parameters.js";
import type { WeightStore } from "../model/weights.js";
import { constant } from "../runtime/constants.js";
import { keep, type Tensor, tidy } from "../runtime/runtime.js";

/** A batch's statistics, held until the batch's loss is accepted. Dispose of it after use. */
export class HeldStatistics {
  readonly #held: { readonly names: BatchNormNames; readonly mean: Tensor; readonly variance: Tensor }[] = [];

  /** Stores copies, `[channels]` each, instead of updating the moving statistics of a store. Borrows the tensors. */
  updateStatistics(names: BatchNormNames, mean: Tensor, variance: Tensor): void {
    const copy = (value: Tensor): Tensor => tidy(() => keep(multiply(value, constant(1))));
    this.#held.push({ names, mean: copy(mean), variance: copy(variance) });
  }

  /** Updates the store's moving statistics from the held ones. */
  applyTo(store: WeightStore): void {
    for (const { names, mean, variance } of this.#held) store.updateStatistics(names, mean, variance);
  }

  dispose(): void {
    for (const { mean, variance } of this.#held.splice(0)) {
      mean.dispose();
      variance.dispose();
    }
  }
}
