import { constant } from "../tensorflow/constants.js";
import { add, multiply, reshape, rsqrt, square, subtract, sum } from "../tensorflow/kernels.js";
import { type Tensor, tidy } from "../tensorflow/runtime.js";
import { release } from "./block.js";

export const L2_EPSILON = 1e-12;

/**
 * Brings each cluster's descriptor to length 1: x / sqrt(sum over P of x^2 + 1e-12), then flattens in (p, k) order.
 * `[videos, P, K]` (taken over) to `[videos, P K]`.
 */
export function normaliseDescriptors(vlad: Tensor): { readonly y: Tensor; readonly backward: (dy: Tensor) => Tensor } {
  const [videos, groupSize, clusters] = vlad.shape as [number, number, number];
  const [unit, inverse] = tidy(() => {
    const inverseLength = rsqrt(add(sum(square(vlad), [1], true), constant(L2_EPSILON)));
    return [multiply(vlad, inverseLength), inverseLength];
  }) as [Tensor, Tensor];
  vlad.dispose();

  const backward = (dy: Tensor): Tensor => {
    const dVlad = tidy(() => {
      const d = reshape(dy, [videos, groupSize, clusters]);
      const along = multiply(unit, sum(multiply(d, unit), [1], true));
      return multiply(subtract(d, along), inverse);
    });
    release(dy, unit, inverse);
    return dVlad;
  };
  return { y: reshape(unit, [videos, groupSize * clusters]), backward };
}
