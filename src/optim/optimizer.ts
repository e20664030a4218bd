import type { Tensor } from "../runtime/runtime.js";
import type { StoredArray } from "../runtime/variables.js";

/** Where an update is in the run. */
export interface UpdateStep {
  /** Counted from 1. */
  readonly step: number;
  readonly learningRate: number;
}

/** Updates a model's parameters in place, one at a time, by their gradients. */
export interface Optimizer {
  /** Borrows the gradient. */
  apply(name: string, gradient: Tensor, at: UpdateStep): void;
  /** Updates a matrix w by the gradient x^T dy + decay w, from its factors. Borrows them; returns dy w^T, of w before the update. */
  applyProduct(name: string, x: Tensor, dy: Tensor, decay: number, at: UpdateStep): Tensor;
  /** Returns its state, under the names that Paddle saves it with. */
  arrays(): readonly StoredArray[];
  dispose(): void;
}
