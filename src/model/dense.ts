import { multiplyFewRows } from "../tensorflow/fused-kernels.js";
import { matMul } from "../tensorflow/kernels.js";
import type { Tensor } from "../tensorflow/runtime.js";
import { release, type TrainingContext, type Weights } from "./block.js";

export interface Dense {
  readonly y: Tensor;
  readonly backward: (dy: Tensor) => Tensor;
}

/** `x w` of `[rows, in]` (taken over) and the named matrix `[in, out]`. */
export function dense(x: Tensor, name: string, context: TrainingContext): Dense {
  const y = denseProduct(x, name, context.weights);
  const backward = (dy: Tensor): Tensor => {
    const dx = context.takeProduct(name, x, dy);
    release(x, dy);
    return dx;
  };
  return { y, backward };
}

/** `x w` of `[rows, in]` and the named matrix, by the faster kernel. */
export function denseProduct(x: Tensor, name: string, weights: Weights): Tensor {
  return weights.use(name, (w) => {
    const size = { rows: x.shape[0] as number, inputs: w.shape[0] as number, outputs: w.shape[1] as number };
    return weights.kernels.denseProduct(size) ? multiplyFewRows(x, w) : matMul(x, w);
  });
}
