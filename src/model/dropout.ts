import { constant } from "../tensorflow/constants.js";
import { multiply, stepAt } from "../tensorflow/kernels.js";
import { statelessUniform } from "../tensorflow/random-kernels.js";
import { type Tensor, tidy } from "../tensorflow/runtime.js";
import { release } from "./block.js";

/**
 * Paddle's dropout of that time (`downgrade_in_infer`): training multiplies by a 0/1 mask that keeps each value with probability
 * 1 - rate, and does not scale up; evaluation multiplies by 1 - rate. Takes `x` over. The mask is a pure function of `seed`.
 */
export function dropOut(
  x: Tensor,
  rate: number,
  seed: readonly [number, number],
): { readonly y: Tensor; readonly backward: (dy: Tensor) => Tensor } {
  if (rate === 0) return { y: x, backward: (dy) => dy };
  const mask = tidy(() => stepAt(statelessUniform(x.shape, seed), constant(rate)));
  const y = multiply(x, mask);
  x.dispose();
  const backward = (dy: Tensor): Tensor => {
    const dx = multiply(dy, mask);
    release(dy, mask);
    return dx;
  };
  return { y, backward };
}
