import { constant } from "./constants.js";
import { run, runMany } from "./execution.js";
import type { Tensor } from "./runtime.js";
import { byteCarrier, fromInts } from "./transfer.js";

/** `u * scale + offset` of `[frames, features] uint8` from the host, in one pass; scale and offset are `[features]`. */
export function dequantiseFused(bytes: Uint8Array, scale: Tensor, offset: Tensor, frames: number): Tensor {
  const features = scale.shape[0] as number;
  return run("NextvladDequantise", () => [], [byteCarrier(bytes, frames * features), scale, offset, fromInts([frames], [])]);
}

/** `x w` of a few rows and a large matrix, bound by reading `w` once (native/dense.cc). For the CPU. */
export function multiplyFewRows(x: Tensor, w: Tensor): Tensor {
  return run("NextvladDense", () => [], [x, w]);
}

/**
 * Each video's sum over frames and groups of `expanded` `[frames, D]` times `assignment` `[frames G, K]`: `[videos, P, K]`, in one kernel
 * (native/frame_sums.cc). For the CPU.
 */
export function sumFramesFused(expanded: Tensor, assignment: Tensor, frameCounts: Int32Array): Tensor {
  return run("NextvladFrameSums", () => [], [expanded, assignment, fromInts(frameCounts, [frameCounts.length])]);
}

/** The gradient of `sumFramesFused`, from that of the sums to those of assignment and expansion. */
export function sumFramesFusedGradient(
  dSums: Tensor,
  expanded: Tensor,
  assignment: Tensor,
  frameCounts: Int32Array,
): { readonly assignment: Tensor; readonly expanded: Tensor } {
  const inputs = [dSums, expanded, assignment, fromInts(frameCounts, [frameCounts.length])];
  const [dAssignment, dExpanded] = runMany("NextvladFrameSumsGradient", () => [], inputs, 2) as [Tensor, Tensor];
  return { assignment: dAssignment, expanded: dExpanded };
}

export interface FusedAssignment {
  /** `[frames G, K]`; on a GPU `[videos, longest G, K]`, with zeros behind each video's frames. */
  readonly assignment: Tensor;
  /** The attention's sigmoid `[frames, G]`. */
  readonly gate: Tensor;
  /** The batch's mean, biased variance and 1 / sqrt(variance + epsilon), `[G K]` each. */
  readonly mean: Tensor;
  readonly variance: Tensor;
  readonly inverse: Tensor;
  /** The assignment's sum over each video's frames, `[videos, G K]`. */
  readonly mass: Tensor;
}

/** Batch norm, softmax over clusters and attention of `z` `[frames, G K]`, three passes over memory in all (native/assignment.cc). */
export function assignFused(
  z: Tensor,
  attention: Tensor,
  scale: Tensor,
  shift: Tensor,
  frameCounts: Int32Array,
  epsilon: number,
): FusedAssignment {
  const inputs = [z, attention, scale, shift, fromInts(frameCounts, [frameCounts.length]), constant(epsilon)];
  const outputs = runMany("NextvladAssign", () => [], inputs, 6) as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
  const [assignment, gate, mean, variance, inverse, mass] = outputs;
  return { assignment, gate, mean, variance, inverse, mass };
}

/** The gradient of `assignFused`, from those of the assignment (in its layout) and of the mass to those of z, attention, scale and shift. */
export function assignFusedGradient(
  throughFrames: Tensor,
  throughMass: Tensor,
  z: Tensor,
  scale: Tensor,
  forward: FusedAssignment,
  frameCounts: Int32Array,
): { dz: Tensor; dAttention: Tensor; dScale: Tensor; dShift: Tensor } {
  const { assignment, gate, mean, inverse } = forward;
  const counts = fromInts(frameCounts, [frameCounts.length]);
  const inputs = [throughFrames, throughMass, assignment, gate, z, mean, inverse, scale, counts];
  const [dz, dAttention, dScale, dShift] = runMany("NextvladAssignGradient", () => [], inputs, 4) as [Tensor, Tensor, Tensor, Tensor];
  return { dz, dAttention, dScale, dShift };
}

/** Softmax over clusters of `z scale + shift`, times the attention's sigmoid, and its sum over each video's frames. */
export function assignFrozenFused(
  z: Tensor,
  attention: Tensor,
  scale: Tensor,
  shift: Tensor,
  frameCounts: Int32Array,
): { assignment: Tensor; mass: Tensor } {
  const inputs = [z, attention, scale, shift, fromInts(frameCounts, [frameCounts.length])];
  const [assignment, mass] = runMany("NextvladAssignFrozen", () => [], inputs, 2) as [Tensor, Tensor];
  return { assignment, mass };
}

/** Frames `[frames, columns]`, each of `parts` rows, with as many for each video: `[videos, longest parts, columns / parts]`, with zeros behind each video's own. For a GPU. */
export function padFrames(frames: Tensor, frameCounts: Int32Array, parts: number): Tensor {
  return run("NextvladPad", () => [], [frames, fromInts(frameCounts, [frameCounts.length]), fromInts([parts], [])]);
}

/** The way back: `[frames, columns]` from that many values a place, in whatever shape. */
export function unpadFrames(padded: Tensor, frameCounts: Int32Array): Tensor {
  return run("NextvladUnpad", () => [], [padded, fromInts(frameCounts, [frameCounts.length])]);
}

/**
 * From sums of assignment times expansion `[videos, P, K]` and the mass `[videos, G K]` to descriptors each of whose clusters has length 1,
 * `[videos, P K]`, and 1 / length `[videos, K]`: what model/vlad.ts and model/descriptor-norm.ts do step by step. For a GPU.
 */
export function describeFused(
  sums: Tensor,
  mass: Tensor,
  bias: Tensor,
  centres: Tensor,
): { readonly unit: Tensor; readonly inverse: Tensor } {
  const [unit, inverse] = runMany("NextvladDescribe", () => [], [sums, mass, bias, centres], 2) as [Tensor, Tensor];
  return { unit, inverse };
}

/** The gradient of `describeFused`, from that of the descriptors. */
export function describeFusedGradient(
  dUnit: Tensor,
  { unit, inverse }: ReturnType<typeof describeFused>,
  mass: Tensor,
  bias: Tensor,
  centres: Tensor,
): { readonly sums: Tensor; readonly mass: Tensor; readonly centres: Tensor; readonly bias: Tensor } {
  const outputs = runMany("NextvladDescribeGradient", () => [], [dUnit, unit, inverse, mass, bias, centres], 4);
  const [dSums, dMass, dCentres, dBias] = outputs as [Tensor, Tensor, Tensor, Tensor];
  return { sums: dSums, mass: dMass, centres: dCentres, bias: dBias };
}
