/**
 * Wrappers of the kernels in native/: their names, inputs and outputs. `cpu.ts` and `gpu.ts` decide which of them compute.
 * Symbols: F features, D = lambda F, G groups, K clusters, P = D / G. All tensors are float32 and borrowed.
 */
import { constant } from "../runtime/constants.js";
import { run, runMany } from "../runtime/execution.js";
import type { Tensor } from "../runtime/tensor.js";
import { byteCarrier, fromInts } from "../runtime/transfer.js";
import type { MatMulOptions } from "./tensorflow-ops.js";
import type { Activation, Affine, Assignment, Quantization } from "./types.js";

const countsOf = (frameCounts: Int32Array): Tensor => fromInts(frameCounts, [frameCounts.length]);

/** `u * scale + offset` of `[frames, F] uint8` from the host, in one pass. */
export function dequantize(bytes: Uint8Array, frames: number, { scale, offset }: Quantization): Tensor {
  const features = scale.shape[0] as number;
  return run("NextvladDequantize", () => [], [byteCarrier(bytes, frames * features), scale, offset, fromInts([frames], [])]);
}

/** `x w` of a few rows and a large matrix, bound by reading `w` once (native/dense.cc). CPU only. */
export function multiplyFewRows(x: Tensor, w: Tensor): Tensor {
  return run("NextvladDense", () => [], [x, w]);
}

/** `a b` of two matrices, each optionally transposed (native/float_products.cc). CPU only. */
export function multiplyMatrices(a: Tensor, b: Tensor, { transposeA = false, transposeB = false }: MatMulOptions = {}): Tensor {
  return run("NextvladProduct", () => [], [a, b, constant(Number(transposeA)), constant(Number(transposeB))]);
}

/** Copies w `[inputs, outputs]` to panels for `multiplyFrozen`. CPU only. */
export function packDense(w: Tensor): Tensor {
  return run("NextvladPackDense", () => [], [w]);
}

/** `x w + shift`, followed by ReLU if `activation` says so, given the panels of w (native/frozen_dense.cc). CPU only. */
export function multiplyFrozen(x: Tensor, panels: Tensor, shift: Tensor, activation: Activation): Tensor {
  return run("NextvladFrozenDense", () => [], [x, panels, shift, constant(Number(activation === "relu"))]);
}

/** Multiplies x by a mask of zeros and ones, 0 with probability `rate`: a pure function of `seed`, the same as `stepAt(statelessUniform(...), rate)`. CPU only. */
export function maskValues(x: Tensor, rate: number, seed: readonly [number, number]): Tensor {
  return run("NextvladDropout", () => [], [x, fromInts(seed, [2]), constant(rate)]);
}

/** sigmoid(x) in one pass; TensorFlow's takes several times as long (native/gate.cc). CPU only. */
export function sigmoidOnePass(x: Tensor): Tensor {
  return run("NextvladSigmoid", () => [], [x]);
}

/** h sigmoid(e), and sigmoid(e) (native/gate.cc). CPU only. */
export function gate(h: Tensor, e: Tensor): { readonly y: Tensor; readonly gates: Tensor } {
  const [y, gates] = runMany("NextvladGate", () => [], [h, e], 2) as [Tensor, Tensor];
  return { y, gates };
}

/** Returns the gradient of e, given that of `gate`'s y. CPU only. */
export function gateGradient(dy: Tensor, h: Tensor, gates: Tensor): Tensor {
  return run("NextvladGateGradient", () => [], [dy, h, gates]);
}

/** Returns the gradient of h, given that of `gate`'s y and the part that passes through e. CPU only. */
export function gateInputGradient(dy: Tensor, gates: Tensor, throughE: Tensor): Tensor {
  return run("NextvladGateInputGradient", () => [], [dy, gates, throughE]);
}

/** The sum of m (log(1 + e^l) - l y) of logits l, labels y and the mask m, null for ones (native/cross_entropy.cc). CPU only. */
export function crossEntropy(logits: Tensor, labels: Tensor, mask: Tensor | null): Tensor {
  return run("NextvladCrossEntropy", () => [], [logits, labels, mask ?? constant(1)]);
}

/** Returns m (sigmoid(l) - y) / videos. CPU only. */
export function crossEntropyGradient(logits: Tensor, labels: Tensor, mask: Tensor | null): Tensor {
  return run("NextvladCrossEntropyGradient", () => [], [logits, labels, mask ?? constant(1)]);
}

/** Sums of x1 `[frames, D]` times assignment `[frames G, K]` over each video's frames and groups: `[videos, P, K]` (native/frame_sums.cc). CPU only. */
export function sumFrames(x1: Tensor, assignment: Tensor, frameCounts: Int32Array): Tensor {
  return run("NextvladFrameSums", () => [], [x1, assignment, countsOf(frameCounts)]);
}

/** Returns the gradients of the assignment and of x1, given the gradient of `sumFrames`. */
export function sumFramesGradient(
  dSums: Tensor,
  x1: Tensor,
  assignment: Tensor,
  frameCounts: Int32Array,
): { readonly assignment: Tensor; readonly x1: Tensor } {
  const inputs = [dSums, x1, assignment, countsOf(frameCounts)];
  const [dAssignment, dX1] = runMany("NextvladFrameSumsGradient", () => [], inputs, 2) as [Tensor, Tensor];
  return { assignment: dAssignment, x1: dX1 };
}

/** The moments of each column of z `[frames, columns]`, `[parts, columns, 3]`: of parts of the frames the number, the mean, and the sum of squared differences. */
export function moments(z: Tensor): Tensor {
  return run("NextvladMoments", () => [], [z]);
}

export interface AssignmentWithStatistics extends Assignment {
  /** sigmoid(alpha) `[frames, G]`. */
  readonly attention: Tensor;
  /** Of the moments the mean, the biased variance and 1 / sqrt(variance + epsilon), `[G K]` each. */
  readonly mean: Tensor;
  readonly variance: Tensor;
  readonly inverse: Tensor;
}

/** Batch norm, softmax over clusters and attention of z `[frames, G K]`, in one pass over memory (native/assignment.cc). */
export function softAssign(
  z: Tensor,
  alpha: Tensor,
  moments: Tensor,
  { scale, shift }: Affine,
  frameCounts: Int32Array,
  epsilon: number,
): AssignmentWithStatistics {
  const inputs = [z, alpha, moments, scale, shift, countsOf(frameCounts), constant(epsilon)];
  const outputs = runMany("NextvladAssign", () => [], inputs, 6);
  const [assignment, attention, mean, variance, inverse, aSum] = outputs as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
  return { assignment, attention, mean, variance, inverse, aSum };
}

/** Returns the gradients of the normalized logits, alpha, scale and shift, given those of assignment (in its layout) and aSum. */
export function softAssignGradient(
  dAssignment: Tensor,
  dASum: Tensor,
  z: Tensor,
  { assignment, attention, mean, inverse }: AssignmentWithStatistics,
  frameCounts: Int32Array,
): { readonly normalized: Tensor; readonly alpha: Tensor; readonly scale: Tensor; readonly shift: Tensor } {
  const inputs = [dAssignment, dASum, assignment, attention, z, mean, inverse, countsOf(frameCounts)];
  const [normalized, alpha, scale, shift] = runMany("NextvladAssignGradient", () => [], inputs, 4) as [Tensor, Tensor, Tensor, Tensor];
  return { normalized, alpha, scale, shift };
}

/** Returns the gradient of z, given that of the normalized logits, and those of the batch norm's parameters over all `frames` frames of the moments. */
export function logitsGradient(
  dNormalized: Tensor,
  z: Tensor,
  { mean, inverse }: AssignmentWithStatistics,
  scale: Tensor,
  total: Affine,
  frames: number,
): Tensor {
  return run("NextvladLogitsGradient", () => [], [dNormalized, z, mean, inverse, scale, total.scale, total.shift, fromInts([frames], [])]);
}

/** Softmax over clusters of z scale + shift, times the attention. */
export function softAssignFrozen(z: Tensor, alpha: Tensor, { scale, shift }: Affine, frameCounts: Int32Array): Assignment {
  const [assignment, aSum] = runMany("NextvladAssignFrozen", () => [], [z, alpha, scale, shift, countsOf(frameCounts)], 2) as [
    Tensor,
    Tensor,
  ];
  return { assignment, aSum };
}

/** Frames `[frames, columns]`, each of `parts` rows: `[videos, longest parts, columns / parts]`, zeros after each video's frames. GPU only. */
export function padFrames(frames: Tensor, frameCounts: Int32Array, parts: number): Tensor {
  return run("NextvladPad", () => [], [frames, countsOf(frameCounts), fromInts([parts], [])]);
}

/** The inverse of `padFrames`: `[frames, columns]`. GPU only. */
export function unpadFrames(padded: Tensor, frameCounts: Int32Array): Tensor {
  return run("NextvladUnpad", () => [], [padded, countsOf(frameCounts)]);
}

/** The descriptor `[videos, P K]` and 1 / length of each cluster's part `[videos, K]`, from sums `[videos, P, K]` and aSum `[videos, G K]`. */
export function descriptor(
  sums: Tensor,
  aSum: Tensor,
  bias: Tensor,
  centers: Tensor,
  epsilon: number,
): { readonly unit: Tensor; readonly inverse: Tensor } {
  const [unit, inverse] = runMany("NextvladDescribe", () => [], [sums, aSum, bias, centers, constant(epsilon)], 2) as [Tensor, Tensor];
  return { unit, inverse };
}

/** Returns the gradients of `descriptor`'s inputs, given the gradient of `unit`. */
export function descriptorGradient(
  dUnit: Tensor,
  { unit, inverse }: ReturnType<typeof descriptor>,
  aSum: Tensor,
  bias: Tensor,
  centers: Tensor,
): { readonly sums: Tensor; readonly aSum: Tensor; readonly bias: Tensor; readonly centers: Tensor } {
  const outputs = runMany("NextvladDescribeGradient", () => [], [dUnit, unit, inverse, aSum, bias, centers], 4);
  const [dSums, dASum, dCenters, dBias] = outputs as [Tensor, Tensor, Tensor, Tensor];
  return { sums: dSums, aSum: dASum, centers: dCenters, bias: dBias };
}

/** Batch norm of `[rows, channels]`, and 1 / sqrt(variance + epsilon). On a GPU, cuDNN's is slow on rows that are not images. */
export function batchNorm(x: Tensor, { scale, shift }: Affine, epsilon: number) {
  const outputs = runMany("NextvladBatchNorm", () => [], [x, scale, shift, constant(epsilon)], 4);
  const [y, mean, variance, inverse] = outputs as [Tensor, Tensor, Tensor, Tensor];
  return { y, mean, variance, inverse };
}

/** Returns the gradients of `batchNorm`'s x, scale and shift, given the gradient of y. */
export function batchNormGradient(dy: Tensor, x: Tensor, scale: Tensor, mean: Tensor, inverse: Tensor) {
  const [dx, dScale, dShift] = runMany("NextvladBatchNormGradient", () => [], [dy, x, scale, mean, inverse], 3) as [Tensor, Tensor, Tensor];
  return { x: dx, scale: dScale, shift: dShift };
}

/**
 * Precision of weights in products with bytes, in terms of 8 bits (native/panels.h): 3 are as exact as float32; the error of 2 is 2^-16 of the column's
 * largest weight, of 1 it is 2^-8.
 */
export type Terms = 1 | 2 | 3;
/** Number of terms that is as exact as float32. */
export const FLOAT_TERMS: Terms = 3;

/** Weights prepared for products with bytes, in the form that the processor multiplies fastest. */
export interface BytePanels {
  readonly panels: Tensor;
  readonly features: number;
  readonly columns: number;
  readonly terms: Terms;
}

/** Prepares `w` `[features, columns]` and `bias` `[columns]`; pads each of `groups` groups of columns separately. CPU only, as all functions below. */
export function splitWeights(w: Tensor, bias: Tensor, { scale, offset }: Quantization, groups: number, terms: Terms): BytePanels {
  const [features, columns] = w.shape as [number, number];
  const panels = run("NextvladSplit", () => [], [w, bias, scale, offset, fromInts([groups, terms], [2])]);
  return { panels, features, columns, terms };
}

/** `x w + bias`, `[frames, columns]`, of bytes packed by `byteCarrier` and prepared weights. */
export function multiplyBytes(carrier: Tensor, frames: number, { panels, features, columns, terms }: BytePanels): Tensor {
  return run("NextvladByteProduct", () => [], [carrier, panels, fromInts([frames, features, columns, terms], [4])]);
}

/** `x^T d`, `[features, columns]`, of bytes packed by `byteCarrier` and d `[frames, columns]`. */
export function multiplyBytesTransposed(carrier: Tensor, d: Tensor, { scale, offset }: Quantization): Tensor {
  return run("NextvladByteProductTransposed", () => [], [carrier, d, scale, offset]);
}

/** The prepared weights of one modality of a frozen network. */
export interface FramePanels {
  /** Columns `[G K]`: the products are the normalized cluster logits. */
  readonly clusters: BytePanels;
  /** Columns `[G]`, before the sigmoid. */
  readonly attention: BytePanels;
  /** Columns `[D]`, bias included. */
  readonly expansion: BytePanels;
}

/** What computes descriptors from sums over frames. */
export interface DescriptorWeights {
  /** `[P, K]`. */
  readonly centers: Tensor;
  /** The batch norm, `[P K]` each. */
  readonly norm: Affine;
  readonly epsilon: number;
}

/** The normalized descriptor of each video, `[videos, P K]`, from `[frames, F] uint8` (native/frames.cc). */
export function describeByteFrames(
  bytes: Uint8Array,
  frameCounts: Int32Array,
  { clusters, attention, expansion }: FramePanels,
  { centers, norm, epsilon }: DescriptorWeights,
): Tensor {
  const { features, terms } = clusters;
  const groups = attention.columns;
  const frames = frameCounts.reduce((sum, count) => sum + count, 0);
  const sizes = [features, groups, clusters.columns / groups, expansion.columns / groups, terms];
  const panels = [clusters.panels, attention.panels, expansion.panels];
  const ofDescriptor = [centers, norm.scale, norm.shift, constant(epsilon)];
  const inputs = [
    byteCarrier(bytes, frames * features),
    countsOf(frameCounts),
    ...panels,
    ...ofDescriptor,
    fromInts(sizes, [sizes.length]),
  ];
  return run("NextvladFrames", () => [], inputs);
}
