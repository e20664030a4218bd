import type { Kernels } from "../kernels/types.js";
import type { WeightStore } from "../model/weights.js";
import { fill } from "../runtime/constants.js";
import { type Tensor, tidy } from "../runtime/tensor.js";
import { type AdamCoefficients, DeviceVariable, type StoredArray } from "../runtime/variables.js";
import type { Optimizer, UpdateStep } from "./optimizer.js";

export const BETA1 = 0.9;
export const BETA2 = 0.999;
const EPSILON = 1e-8;

/** One parameter's first and second moments. */
export interface Moments {
  readonly m: DeviceVariable;
  readonly v: DeviceVariable;
}

/**
 * Adam(0.9, 0.999, 1e-8) as in fluid 1.5 and TensorFlow's kernel (epsilon is added to sqrt(v) without bias correction), in place, one parameter at a time.
 * With weight decay, AdamW (arXiv:1711.05101): each step also subtracts learning rate * weight decay * w from the arrays w of two dimensions: the matrices of all
 * layers and the cluster centers, but no bias, and no scale or shift of a batch norm.
 */
export class Adam implements Optimizer {
  private readonly store: WeightStore;
  private readonly kernels: Kernels;
  private readonly weightDecay: number;
  private readonly moments = new Map<string, Moments>();

  constructor(store: WeightStore, kernels: Kernels, weightDecay = 0) {
    this.store = store;
    this.kernels = kernels;
    this.weightDecay = weightDecay;
    for (const { name, trained } of store.table) {
      if (!trained) continue;
      const { shape } = store.variable(name);
      const zero = (moment: string): DeviceVariable => {
        const variable = new DeviceVariable(`${name}/${moment}`, shape);
        tidy(() => variable.assign(fill(shape, 0)));
        return variable;
      };
      this.moments.set(name, { m: zero("m"), v: zero("v") });
    }
  }

  /** Returns the moments of each parameter P under Paddle's names, `P_moment1_0` and `P_moment2_0`. */
  arrays(): readonly StoredArray[] {
    return [...this.moments].flatMap(([name, { m, v }]) => [
      this.store.storedArray(`${name}_moment1_0`, name, m),
      this.store.storedArray(`${name}_moment2_0`, name, v),
    ]);
  }

  /**
   * Updates a parameter by its gradient; see `Optimizer`.
   * `epsilon` is for tests against Paddle 2, which scales it by sqrt(1 - beta2^step).
   */
  apply(name: string, gradient: Tensor, decay: number, at: UpdateStep, epsilon = EPSILON): void {
    const { m, v } = this.moments.get(name) as Moments;
    this.store.variable(name).applyAdam(m, v, gradient, this.#coefficients(name, at, epsilon), decay);
  }

  /** Updates a matrix w by the gradient x^T dy + decay w, from its factors; see `Optimizer`. */
  applyProduct(name: string, x: Tensor, dy: Tensor, decay: number, at: UpdateStep, onInputGradient?: (dx: Tensor) => void): Tensor {
    const { m, v } = this.moments.get(name) as Moments;
    const w = this.store.variable(name);
    return this.kernels.denseWithAdam(x, dy, { w, m, v }, this.#coefficients(name, at, EPSILON), decay, onInputGradient);
  }

  #coefficients(name: string, { step, learningRate }: UpdateStep, epsilon: number): AdamCoefficients {
    const weightDecay = this.store.parameter(name).shape.length === 2 ? this.weightDecay : 0;
    return { learningRate, beta1: BETA1, beta2: BETA2, epsilon, beta1Power: BETA1 ** step, beta2Power: BETA2 ** step, weightDecay };
  }

  dispose(): void {
    for (const { m, v } of this.moments.values()) {
      m.dispose();
      v.dispose();
    }
  }
}
