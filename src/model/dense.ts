import { multiplyFewRows } from "../tensorflow/fused-kernels.js";
import type { Tensor } from "../tensorflow/runtime.js";
import { release, type TrainingContext } from "./block.js";

export interface Dense {
  readonly y: Tensor;
  readonly backward: (dy: Tensor) => Tensor;
}

/** `x w` of `[rows, in]` (taken over) and the named matrix `[in, out]`. */
export function dense(x: Tensor, name: string, context: TrainingContext): Dense {
  const y = context.weights.use(name, (w) => multiplyFewRows(x, w));
  const backward = (dy: Tensor): Tensor => {
    const dx = context.takeProduct(name, x, dy);
    release(x, dy);
    return dx;
  };
  return { y, backward };
}
