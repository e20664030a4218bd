import { add, addBias, multiply, relu, reluGradient, rsqrt, subtract, sum } from "../kernels/tensorflow-ops.js";
import type { Affine, Kernels } from "../kernels/types.js";
import { constant } from "../runtime/constants.js";
import { release, type Tensor, tidy } from "../runtime/tensor.js";
import { fromFloats } from "../runtime/transfer.js";
import { BATCH_NORM_EPSILON, type BatchNormNames, GATING_EXPAND, GATING_NORM, GATING_REDUCE } from "./parameters.js";
import type { Weights } from "./weights.js";

/**
 * What a training step passes to each layer. A layer's forward takes ownership of its input, and returns its output and a `backward`. `backward` takes
 * ownership of the output's gradient and returns the input's; it runs once, reports each parameter's gradient as soon as it exists, and frees what the
 * forward pass saved.
 */
export interface TrainingContext {
  readonly weights: Weights;
  readonly kernels: Kernels;
  /** Takes ownership of a parameter's gradient. Called once per parameter, after the layer's last use of the parameter's value. */
  readonly onGradient: (parameter: string, gradient: Tensor) => void;
  /**
   * The backward pass of `dense`: borrows the factors of the gradient x^T dy of a matrix w, x `[rows, inputs]` and dy `[rows, outputs]`; returns dx = dy w^T, of w
   * before any update. `trainStep` also updates w here; `onInputGradient`, if given, is called with dx before that, and borrows it.
   */
  readonly backwardDense: (parameter: string, x: Tensor, dy: Tensor, onInputGradient?: (dx: Tensor) => void) => Tensor;
  /** Borrows the mean and the biased variance that the moving statistics follow, `[channels]` each. */
  readonly onBatchStatistics: (names: BatchNormNames, mean: Tensor, variance: Tensor) => void;
}

export interface Layer {
  readonly y: Tensor;
  readonly backward: (dy: Tensor) => Tensor;
}

/** `x w` of `[rows, inputs]` and the named matrix `[inputs, outputs]`. */
export function dense(x: Tensor, name: string, { weights, kernels, backwardDense }: TrainingContext): Layer {
  const y = weights.use(name, (w) => kernels.matMul(x, w));
  const backward = (dy: Tensor): Tensor => {
    const dx = backwardDense(name, x, dy);
    release(x, dy);
    return dx;
  };
  return { y, backward };
}

/** `x w + b` of the named matrix and bias. */
export function affine(x: Tensor, w: string, b: string, context: TrainingContext): Layer {
  const product = dense(x, w, context);
  const y = context.weights.use(b, (value) => addBias(product.y, value));
  product.y.dispose();
  const backward = (dy: Tensor): Tensor => {
    const db = sum(dy, [0]);
    const dx = product.backward(dy);
    context.onGradient(b, db);
    return dx;
  };
  return { y, backward };
}

/** Normalizes `[rows, channels]` by the batch's mean and biased variance over rows. */
export function batchNorm(x: Tensor, names: BatchNormNames, context: TrainingContext): Layer {
  const { weights, kernels, onGradient } = context;
  const forward = useAffine(names, weights, (norm) => kernels.batchNorm(x, norm, BATCH_NORM_EPSILON));
  context.onBatchStatistics(names, forward.mean, forward.variance);
  const backward = (dy: Tensor): Tensor => {
    const d = weights.use(names.scale, (scale) => forward.backward(dy, scale));
    onGradient(names.scale, d.scale);
    onGradient(names.shift, d.shift);
    return d.x;
  };
  return { y: forward.y, backward };
}

/** Passes the scale and the shift of a batch norm to `compute`. */
export function useAffine<T>(names: BatchNormNames, weights: Weights, compute: (norm: Affine) => T): T {
  return weights.use(names.scale, (scale) => weights.use(names.shift, (shift) => compute({ scale, shift })));
}

/** Returns a batch norm with its moving statistics as y = x scale + shift. */
export function frozenBatchNorm(names: BatchNormNames, weights: Weights): Affine {
  return tidy(() => {
    const inverse = weights.use(names.movingVariance, (variance) => rsqrt(add(variance, constant(BATCH_NORM_EPSILON))));
    const scale = weights.use(names.scale, (value) => multiply(value, inverse));
    const ofMean = weights.use(names.movingMean, (mean) => multiply(mean, scale));
    return { scale, shift: weights.use(names.shift, (shift) => subtract(shift, ofMean)) };
  });
}

/**
 * Dropout as in fluid 1.5 (`downgrade_in_infer`): training multiplies by a 0/1 mask that keeps each value with probability 1 - rate, and does not
 * scale up; evaluation multiplies by 1 - rate. The mask is a pure function of `seed`.
 */
export function dropout(x: Tensor, rate: number, seed: readonly [number, number], kernels: Kernels): Layer {
  return rate === 0 ? { y: x, backward: (dy) => dy } : kernels.dropout(x, rate, seed);
}

/** Context gating, a squeeze-and-excitation block: h * sigmoid(relu(BN(h W1)) W2); input and output are `[videos, hidden]`. */
export function contextGating(h: Tensor, context: TrainingContext): Layer {
  const reduced = dense(h.clone(), GATING_REDUCE, context);
  const normalized = batchNorm(reduced.y, GATING_NORM, context);
  const active = relu(normalized.y);
  normalized.y.dispose();
  const expanded = dense(active.clone(), GATING_EXPAND, context);
  const gated = context.kernels.gate(h, expanded.y);

  const backward = (dy: Tensor): Tensor => {
    const d = gated.backward(dy);
    const dActive = expanded.backward(d.e);
    const dNormalized = reluGradient(dActive, active);
    release(dActive, active);
    return d.h(reduced.backward(normalized.backward(dNormalized)));
  };
  return { y: gated.y, backward };
}

/** How labels are not zeros and ones. */
export interface SoftLabels {
  /** The weight of each label of each video; 1 if undefined. */
  readonly weights?: readonly Float32Array[] | undefined;
  /** s in y (1 - s) + s / 2: label smoothing (arXiv:1512.00567) towards the uniform distribution of the two outcomes of each class. */
  readonly smoothing?: number;
}

/** Returns the labels y as a float32 matrix `[videos, classes]`, by default of zeros and ones. */
export function labelMatrix(labels: readonly Int32Array[], classes: number, { weights, smoothing = 0 }: SoftLabels = {}): Tensor {
  const matrix = new Float32Array(labels.length * classes).fill(smoothing / 2);
  for (const [video, indices] of labels.entries())
    for (const [i, label] of indices.entries()) {
      matrix[video * classes + label] = (weights?.[video]?.[i] ?? 1) * (1 - smoothing) + smoothing / 2;
    }
  return fromFloats(matrix, [labels.length, classes]);
}

/** Returns the mask of the cross entropy: null if all classes count. */
export function ratedMask(rated: readonly Int32Array[] | undefined, classes: number): Tensor | null {
  return rated === undefined ? null : labelMatrix(rated, classes);
}
