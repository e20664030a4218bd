import type { Tensor } from "../runtime/tensor.js";
import type { AdamCoefficients, DeviceVariable } from "../runtime/variables.js";
import type { RaggedLayout } from "./ragged.js";
import type { MatMulOptions } from "./tensorflow-ops.js";

/**
 * The computations that have a faster implementation on some device or processor. All implementations compute the same, up to rounding:
 * `reference.ts` is the definition, `cpu.ts` and `gpu.ts` are tested against it.
 *
 * Symbols are the paper's (see `model/nextvlad.ts`): F features, D = lambda F, G groups, K clusters, P = D / G. All tensors are float32.
 * A function borrows its tensors unless it says that it takes ownership. A `backward` runs at most once; it takes ownership of the gradients that it
 * receives, and frees what its forward pass saved.
 */
export interface Kernels {
  /** Returns the features x `[frames, F]` that bytes `[frames, F] uint8` represent. */
  readonly dequantize: (bytes: Uint8Array, frames: number, quantization: Quantization) => Tensor;
  /** Returns the same features as a factor of products. Takes ownership of the quantization. */
  readonly features: (bytes: Uint8Array, frames: number, quantization: Quantization) => Features;
  /**
   * The moments of each column of z `[frames, columns]`, `[parts, columns, 3]`: of one or more parts of the frames, the number of frames, their mean, and the
   * sum of their squared differences from it.
   */
  readonly moments: (z: Tensor) => Tensor;
  /**
   * Soft assignment. The batch norm's statistics are those of `moments`: of z, and of other frames of the batch if z has a part of them.
   * Takes ownership of `z` `[frames, G K]` and `alpha` `[frames, G]` (before its sigmoid).
   */
  readonly softAssign: (z: Tensor, alpha: Tensor, moments: Tensor, norm: Affine, layout: RaggedLayout, epsilon: number) => SoftAssignment;
  /** Soft assignment with frozen statistics, where the normalized logits are z scale + shift. Takes ownership of `z` and `alpha`. */
  readonly softAssignFrozen: (z: Tensor, alpha: Tensor, norm: Affine, layout: RaggedLayout) => Assignment;
  /** The sums over each video's frames and groups of a[t, g, k] x1[t, g, p]. Takes ownership of x1 `[frames, D]`. */
  readonly vladSums: (assignment: Tensor, x1: Tensor, layout: RaggedLayout, groups: number) => VladSums;
  /**
   * The descriptor: sums plus the bias `[D]`, minus the centers `[K, P]`, both weighted by aSum; then each cluster's part is scaled to length 1.
   * Takes ownership of `sums` `[videos, P, K]`; `aSum` is `[videos, G K]`.
   */
  readonly descriptor: (sums: Tensor, aSum: Tensor, bias: Tensor, centers: Tensor) => Descriptor;
  /** Batch norm of `x` `[rows, channels]` with its own mean and biased variance over rows. Takes ownership of `x`. */
  readonly batchNorm: (x: Tensor, norm: Affine, epsilon: number) => BatchNorm;
  /**
   * Multiplies x by a mask that is 0 with probability `rate`, else 1, and a pure function of `seed`. Takes ownership of `x`; `backward` returns the gradient
   * of x, given that of y.
   */
  readonly dropout: (x: Tensor, rate: number, seed: readonly [number, number]) => { readonly y: Tensor; backward(dy: Tensor): Tensor };
  /** 1 / (1 + e^-x) of each value, in any shape. Borrows x. */
  readonly sigmoid: (x: Tensor) => Tensor;
  /** Context gating's product h sigmoid(e), of the same shape. Takes ownership of h and e. */
  readonly gate: (h: Tensor, e: Tensor) => { readonly y: Tensor; backward(dy: Tensor): GateGradient };
  /**
   * The sigmoid cross entropy of logits l and labels y, `[videos, classes]` each, summed over classes and videos, a scalar: sum of m (log(1 + e^l) - l y). The
   * mask m, of the same shape, is 1 where a class counts and else 0 (label_weights in google/youtube-8m, losses.py); null if all count.
   */
  readonly crossEntropy: (logits: Tensor, labels: Tensor, mask: Tensor | null) => Tensor;
  /** The gradient of `crossEntropy` / videos with respect to the logits: m (sigmoid(l) - y) / videos. */
  readonly crossEntropyGradient: (logits: Tensor, labels: Tensor, mask: Tensor | null) => Tensor;
  /** `a b` of two matrices, each optionally transposed. */
  readonly matMul: (a: Tensor, b: Tensor, options?: MatMulOptions) => Tensor;
  /**
   * Returns dx = dy w^T, of w before the update; then updates w by a step of Adam with the gradient x^T dy + decay w. Calls `onInputGradient`, if given, with dx
   * before the update, to start an exchange that runs during the update; it borrows dx.
   */
  readonly denseWithAdam: (
    x: Tensor,
    dy: Tensor,
    parameter: AdamParameter,
    coefficients: AdamCoefficients,
    decay: number,
    onInputGradient?: (dx: Tensor) => void,
  ) => Tensor;
  /** Prepares NeXtVLAD with frozen weights. Takes ownership of its tensors. Throws BAD_USAGE if the device does not support the precision. */
  readonly freezeNextvlad: (weights: NextvladWeights, precision: Precision) => FrozenAggregator;
  /**
   * Prepares x w scale + shift with frozen weights w `[inputs, outputs]`; scale and shift are `[outputs]`, by default 1 and 0. Takes ownership of scale and shift.
   */
  readonly freezeDense: (w: DeviceVariable, affine: Partial<Affine>) => FrozenDense;
}

/** Precision of the products with the features in inference: float32, tf32 (GPU only), or integers (CPU only). */
export type Precision = "float32" | "tf32" | "int16" | "int8";

/** x scale + shift, `[channels]` each: the parameters of a batch norm, or a batch norm with frozen statistics. */
export interface Affine {
  readonly scale: Tensor;
  readonly shift: Tensor;
}

/** A byte u of feature f represents u scale[f] + offset[f]; `[F]` each. */
export interface Quantization {
  readonly scale: Tensor;
  readonly offset: Tensor;
}

/** The features x of a batch, `[frames, F]`, as a factor of products: floats, or bytes that stay bytes. */
export interface Features {
  /** x w, plus `bias` `[columns]` if given: `[frames, columns]` for w `[F, columns]`. */
  times(w: Tensor, bias?: Tensor): Tensor;
  /** x^T d: `[F, columns]` for d `[frames, columns]`. */
  transposedTimes(d: Tensor): Tensor;
  dispose(): void;
}

export interface Assignment {
  /** a[t, g, k], in a layout that only `vladSums` of the same kernels reads: `[frames G, K]`, or on a GPU padded to `[videos, longest G, K]`. */
  readonly assignment: Tensor;
  /** Its sum over each video's frames, `[videos, G K]`. */
  readonly aSum: Tensor;
}

export interface SoftAssignment extends Assignment {
  /** The mean and the biased variance of the moments, `[G K]` each. */
  readonly mean: Tensor;
  readonly variance: Tensor;
  /** Returns the gradients of the inputs, given those of assignment (in its layout) and aSum. */
  backward(dAssignment: Tensor, dASum: Tensor): SoftAssignmentGradient;
}

export interface SoftAssignmentGradient {
  readonly alpha: Tensor;
  /** Of the norm's parameters through the frames of z. */
  readonly scale: Tensor;
  readonly shift: Tensor;
  /**
   * Returns the gradient of z, which depends on the norm's scale, and on the gradients of the norm's parameters through all `frames` frames of the moments.
   * Runs at most once.
   */
  z(scale: Tensor, total: Affine, frames: number): Tensor;
}

export interface VladSums {
  /** `[videos, P, K]`. */
  readonly sums: Tensor;
  /** Returns the gradients of the assignment, in its layout, and of x1 `[frames, D]`, given the gradient of the sums. */
  backward(dSums: Tensor): { readonly assignment: Tensor; readonly x1: Tensor };
  /** Frees what `backward` needs; for inference, which does not call `backward`. */
  dispose(): void;
}

export interface Descriptor {
  /** `[videos, P K]`, in (p, k) order. */
  readonly y: Tensor;
  /** Returns the gradients of the inputs, given the gradient of y. */
  backward(
    dy: Tensor,
    bias: Tensor,
    centers: Tensor,
  ): { readonly sums: Tensor; readonly aSum: Tensor; readonly bias: Tensor; readonly centers: Tensor };
}

export interface BatchNorm {
  /** `[rows, channels]`. */
  readonly y: Tensor;
  /** The batch's mean and biased variance, `[channels]` each. */
  readonly mean: Tensor;
  readonly variance: Tensor;
  /** Returns the gradients of x and of the norm's parameters, given the gradient of y and the scale. */
  backward(dy: Tensor, scale: Tensor): { readonly x: Tensor; readonly scale: Tensor; readonly shift: Tensor };
}

export interface GateGradient {
  readonly e: Tensor;
  /** Returns the gradient of h, given the part that passes through e. Takes ownership of it. Runs once. */
  h(throughE: Tensor): Tensor;
}

/** A parameter with Adam's moments. */
export interface AdamParameter {
  readonly w: DeviceVariable;
  readonly m: DeviceVariable;
  readonly v: DeviceVariable;
}

/** The weights of one modality's NeXtVLAD with frozen statistics. The variables are read with each batch; the tensors belong to the aggregator. */
export interface NextvladWeights {
  readonly groups: number;
  readonly quantization: Quantization;
  /** W Wc `[F, G K]`, and the batch norm after it, `[G K]`, whose shift includes b Wc. */
  readonly foldedClusters: Tensor;
  readonly clusterNorm: Affine;
  /** W Wa `[F, G]` and b Wa + ba `[G]`. */
  readonly foldedAttention: Tensor;
  readonly foldedAttentionBias: Tensor;
  /** W `[F, D]` and b `[D]`. */
  readonly expansion: DeviceVariable;
  readonly expansionBias: DeviceVariable;
  /** c `[K, P]`. */
  readonly centers: DeviceVariable;
  /** The batch norm of the descriptor, `[P K]`. */
  readonly descriptorNorm: Affine;
}

/** What follows a product; relu(x) is max(0, x). */
export type Activation = "linear" | "relu";

export interface FrozenDense {
  /** Returns `[rows, outputs]` for x `[rows, inputs]`; the activation is linear by default. */
  apply(x: Tensor, activation?: Activation): Tensor;
  /** Frees the prepared tensors, not the variable. */
  dispose(): void;
}

export interface FrozenAggregator {
  /** Returns each video's normalized descriptor for `[frames, F] uint8`: `[videos, P K]`. */
  aggregate(bytes: Uint8Array, layout: RaggedLayout): Tensor;
  /** Frees the prepared tensors, not the variables. */
  dispose(): void;
}
