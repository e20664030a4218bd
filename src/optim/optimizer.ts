import type { Tensor } from "../runtime/tensor.js";
import type { StoredArray } from "../runtime/variables.js";

/** Where an update is in the run. */
export interface UpdateStep {
  /** Counted from 1. */
  readonly step: number;
  readonly learningRate: number;
}

/** Updates a model's parameters in place, one at a time, by their gradients. */
export interface Optimizer {
  /** Updates a parameter w by the gradient `gradient + decay w`. Borrows the gradient, of the parameter's shape. */
  apply(name: string, gradient: Tensor, decay: number, at: UpdateStep): void;
  /**
   * Updates a matrix w by the gradient x^T dy + decay w, from its factors x `[rows, inputs]` and dy `[rows, outputs]`. Borrows them; returns dx = dy w^T, of w
   * before the update. Calls `onInputGradient`, if given, with dx before the update.
   */
  applyProduct(name: string, x: Tensor, dy: Tensor, decay: number, at: UpdateStep, onInputGradient?: (dx: Tensor) => void): Tensor;
  /** Returns the optimizer's state, under Paddle's names. */
  arrays(): readonly StoredArray[];
  dispose(): void;
}
