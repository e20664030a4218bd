import type { Tensor } from "../runtime/runtime.js";
import type { StoredArray } from "../runtime/variables.js";

/** Updates a model's parameters in place, one at a time, by their gradients. Steps count from 1. */
export interface Optimizer {
  /** Borrows the gradient. */
  apply(name: string, gradient: Tensor, step: number, learningRate: number): void;
  /** Updates a matrix w by the gradient x^T dy + decay w, from its factors. Borrows them; returns dy w^T, of w before the update. */
  applyProduct(name: string, x: Tensor, dy: Tensor, step: number, learningRate: number, decay: number): Tensor;
  /** Returns its state, under the names that Paddle saves it with. */
  arrays(): readonly StoredArray[];
  dispose(): void;
}
