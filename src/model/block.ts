import type { KernelChoice } from "../tensorflow/kernel-choice.js";
import type { Tensor } from "../tensorflow/runtime.js";
import type { BatchNormNames } from "./parameters.js";

/** Where a block finds its parameters and kernels. */
export interface Weights {
  /** Lends the parameter's value to `compute`; the value must not outlive the call. */
  use<T>(name: string, compute: (value: Tensor) => T): T;
  /** The kernels that compute with them. */
  readonly kernels: KernelChoice;
}

/**
 * What a training step hands down to each block.
 * A block's `forward` returns its output and a `backward` that turns the gradient of the output into that of the inputs; it hands
 * its parameters' gradients on as soon as each exists and frees what it kept and what it was given. `backward` runs once.
 */
export interface TrainingContext {
  readonly weights: Weights;
  /** Takes a finished gradient over. A parameter's gradient comes once, after the block's last use of the parameter's value. */
  readonly takeGradient: (parameter: string, gradient: Tensor) => void;
  /** Takes the gradient of a matrix w as its factors, `x^T dy`, which stay the block's; returns `dy w^T`, of w as it was. */
  readonly takeProduct: (parameter: string, x: Tensor, dy: Tensor) => Tensor;
  /** Is shown a batch's mean and biased variance, `[channels]` each, which stay the block's. */
  readonly takeStatistics: (names: BatchNormNames, mean: Tensor, variance: Tensor) => void;
}

/** Frees tensors as soon as they are dead, so that a step's peak of memory is that of its largest moment and not of its sum. */
export function release(...tensors: readonly Tensor[]): void {
  for (const tensor of tensors) tensor.dispose();
}
