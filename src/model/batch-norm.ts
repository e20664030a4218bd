import { fusedBatchNorm, fusedBatchNormGradient } from "../tensorflow/batch-norm-kernels.js";
import { constant } from "../tensorflow/constants.js";
import { add, multiply, rsqrt, subtract } from "../tensorflow/kernels.js";
import { type Tensor, tidy } from "../tensorflow/runtime.js";
import { release, type TrainingContext, type Weights } from "./block.js";
import type { BatchNormNames } from "./parameters.js";

export const BATCH_NORM_EPSILON = 1e-5;
/** moving = MOMENTUM moving + (1 - MOMENTUM) batch. */
export const BATCH_NORM_MOMENTUM = 0.9;

export interface BatchNormOutput {
  readonly y: Tensor;
  /** From the gradient of `y` to that of `x`, `[rows, channels]` both. */
  readonly backward: (dy: Tensor) => Tensor;
}

/**
 * Normalises `[rows, channels]` by the batch's own mean and biased variance over rows. Takes `x` over.
 * `offset` (`[channels]`) is a constant that was left out of `x` because the norm cancels it; the moving mean includes it.
 */
export function normaliseBatch(x: Tensor, names: BatchNormNames, context: TrainingContext, offset?: Tensor): BatchNormOutput {
  const { weights } = context;
  const forward = weights.use(names.scale, (scale) =>
    weights.use(names.shift, (shift) => fusedBatchNorm(weights.kernels, x, scale, shift, BATCH_NORM_EPSILON)),
  );
  tidy(() => context.takeStatistics(names, offset === undefined ? forward.mean : add(forward.mean, offset), forward.variance));
  const backward = (dy: Tensor): Tensor => {
    const gradient = weights.use(names.scale, (scale) =>
      fusedBatchNormGradient(weights.kernels, dy, x, scale, forward, BATCH_NORM_EPSILON),
    );
    release(dy, x, forward.mean, forward.variance, ...forward.kept);
    context.takeGradient(names.scale, gradient.dScale);
    context.takeGradient(names.shift, gradient.dShift);
    return gradient.dx;
  };
  return { y: forward.y, backward };
}

/** A batch norm with its moving statistics is affine: y = x scale + shift, `[channels]` both. */
export function frozenBatchNorm(names: BatchNormNames, weights: Weights): { readonly scale: Tensor; readonly shift: Tensor } {
  const read = (name: string): Tensor => weights.use(name, (value) => multiply(value, constant(1)));
  const [scale, shift] = tidy(() => {
    const factor = multiply(read(names.scale), rsqrt(add(read(names.movingVariance), constant(BATCH_NORM_EPSILON))));
    return [factor, subtract(read(names.shift), multiply(read(names.movingMean), factor))];
  }) as [Tensor, Tensor];
  return { scale, shift };
}
