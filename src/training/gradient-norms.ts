import { multiply, square, stack, sum } from "../kernels/tensorflow-ops.js";
import type { Kernels } from "../kernels/types.js";
import type { DividedRows } from "../model/divided-rows.js";
import type { WeightStore } from "../model/weights.js";
import { keep, type Tensor, tidy } from "../runtime/tensor.js";
import { toFloats } from "../runtime/transfer.js";

/** Computes the norms of the gradients of a step. All ranks do so together. Dispose of it after use. */
export class GradientNorms {
  readonly #store: WeightStore;
  readonly #kernels: Kernels;
  /** The squared norm of each parameter's gradient. */
  readonly #squared = new Map<string, Tensor>();

  constructor(store: WeightStore, kernels: Kernels) {
    this.#store = store;
    this.#kernels = kernels;
  }

  /** Adds a parameter's gradient; borrows it. */
  add(parameter: string, gradient: Tensor): void {
    this.#add(parameter, (rows) => squaredNorm(gradient, rows));
  }

  /**
   * Adds the gradient x^T dy of a matrix without computing it: its squared norm is trace(x^T dy dy^T x), the sum of the elementwise product of x x^T and dy dy^T,
   * `[videos, videos]` each. Borrows the factors.
   */
  addProduct(parameter: string, x: Tensor, dy: Tensor): void {
    const { matMul } = this.#kernels;
    const gram = (factor: Tensor): Tensor => matMul(factor, factor, { transposeB: true });
    this.#add(parameter, (rows) => sumOf(multiply(gram(x), gram(dy)), rows));
  }

  #add(parameter: string, compute: (rows: DividedRows | null) => Tensor): void {
    const squared = tidy(() => keep(compute(this.#store.dividedRows(parameter))));
    this.#squared.set(parameter, squared);
  }

  /** Returns the norms by parameter, in the order in which they were added; waits for the device. */
  read(): ReadonlyMap<string, number> {
    const squared = tidy(() => toFloats(stack([...this.#squared.values()])));
    // Rounding can make the sum of a zero gradient's products negative.
    return new Map([...this.#squared.keys()].map((parameter, i) => [parameter, Math.sqrt(Math.max(0, squared[i] as number))]));
  }

  dispose(): void {
    for (const squared of this.#squared.values()) squared.dispose();
    this.#squared.clear();
  }
}

/** Returns the squared norm of a gradient, a scalar. `rows`: the rows of which it is the gradient, which all ranks sum; null for all. */
export function squaredNorm(gradient: Tensor, rows: DividedRows | null): Tensor {
  return sumOf(square(gradient), rows);
}

function sumOf(terms: Tensor, rows: DividedRows | null): Tensor {
  const own = sum(
    terms,
    terms.shape.map((_, axis) => axis),
  );
  return rows === null ? own : rows.sum(own);
}
