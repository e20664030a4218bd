import { assignFrozenFused, assignFused, assignFusedGradient } from "../tensorflow/fused-kernels.js";
import type { KernelChoice } from "../tensorflow/kernel-choice.js";
import {
  add,
  addBias,
  divideNoNan,
  gatherRows,
  multiply,
  reshape,
  segmentSum,
  sigmoid,
  sigmoidGradient,
  softmax,
  subtract,
  sum,
} from "../tensorflow/kernels.js";
import { type Tensor, tidy } from "../tensorflow/runtime.js";
import { BATCH_NORM_EPSILON, normaliseBatch } from "./batch-norm.js";
import { release, type TrainingContext } from "./block.js";
import type { BatchNormNames } from "./parameters.js";
import type { RaggedLayout } from "./ragged.js";

export interface AssignmentOptions {
  readonly groups: number;
  readonly clusters: number;
  readonly layout: RaggedLayout;
}

export interface AssignmentGradients {
  readonly logits: Tensor;
  readonly attention: Tensor;
}

export interface Assignment {
  /** `[frames G, K]`: how much of each group of each frame goes to each cluster. */
  readonly assignment: Tensor;
  /** Its sum over the frames of each video, `[videos, G K]`. */
  readonly mass: Tensor;
  /** From the gradients of the assignment and of the mass, which come apart, to those of logits and attention. */
  readonly backward: (dAssignment: Tensor, dMass: Tensor) => AssignmentGradients;
}

/**
 * Soft assignment: softmax over K of the normalised cluster logits, times the group's attention.
 * Takes over `logits` `[frames, G K]` and `attention` `[frames, G]` (before its sigmoid); `offset` `[G K]` as in `normaliseBatch`.
 */
export function assign(
  logits: Tensor,
  offset: Tensor,
  attention: Tensor,
  norm: BatchNormNames,
  options: AssignmentOptions,
  context: TrainingContext,
): Assignment {
  const compute = context.weights.kernels.fused ? assignInOnePass : assignStepByStep;
  return compute(logits, offset, attention, norm, options, context);
}

const assignInOnePass: typeof assign = (logits, offset, attention, norm, { layout }, context) => {
  const { weights } = context;
  const forward = weights.use(norm.scale, (scale) =>
    weights.use(norm.shift, (shift) => tidy(() => assignFused(logits, attention, scale, shift, layout.frameCounts, BATCH_NORM_EPSILON))),
  );
  attention.dispose();
  tidy(() => context.takeStatistics(norm, add(forward.mean, offset), forward.variance));
  const { assignment, mass } = forward;
  const backward = (dAssignment: Tensor, dMass: Tensor): AssignmentGradients => {
    const gradient = weights.use(norm.scale, (scale) =>
      tidy(() => assignFusedGradient(dAssignment, dMass, logits, scale, forward, layout.frameCounts)),
    );
    const { gate, mean, variance, inverse } = forward;
    release(dAssignment, dMass, logits, assignment, mass, gate, mean, variance, inverse);
    context.takeGradient(norm.scale, gradient.dScale);
    context.takeGradient(norm.shift, gradient.dShift);
    return { logits: gradient.dz, attention: gradient.dAttention };
  };
  return { assignment, mass, backward };
};

const assignStepByStep: typeof assign = (logits, offset, attention, norm, options, context) => {
  const { groups, clusters, layout } = options;
  const rows = layout.frames * groups;
  const normalised = normaliseBatch(logits, norm, context, offset);
  const gate = sigmoid(attention);
  const assignment = tidy(() => multiply(softmax(reshape(normalised.y, [rows, clusters])), reshape(gate, [rows, 1])));
  release(normalised.y, attention);
  const mass = sumOverFrames(assignment, options);

  // With a = softmax(y) g and r = sum_k(da softmax(y)): dy = a (da - r) and dg = r. Only `a` and `g` are kept: r = sum_k(da a) / g.
  const backward = (dAssignment: Tensor, dMass: Tensor): AssignmentGradients => {
    const [dNormalised, dAttention] = tidy(() => {
      const ofMass = reshape(gatherRows(dMass, layout.segments()), [rows, clusters]);
      const weighted = multiply(add(dAssignment, ofMass), assignment);
      const dGate = divideNoNan(sum(weighted, [1], true), reshape(gate, [rows, 1]));
      const dScores = subtract(weighted, multiply(assignment, dGate));
      return [reshape(dScores, [layout.frames, groups * clusters]), sigmoidGradient(gate, reshape(dGate, [layout.frames, groups]))];
    }) as [Tensor, Tensor];
    release(dAssignment, dMass, assignment, mass, gate);
    return { logits: normalised.backward(dNormalised), attention: dAttention };
  };
  return { assignment, mass, backward };
};

function sumOverFrames(assignment: Tensor, { groups, clusters, layout }: AssignmentOptions): Tensor {
  return tidy(() => segmentSum(reshape(assignment, [layout.frames, groups * clusters]), layout.segments()));
}

/**
 * The same with frozen statistics: `logits` times `scale` plus `shift`, `[G K]` both, are the normalised ones.
 * Takes logits and attention over.
 */
export function assignFrozen(
  logits: Tensor,
  scale: Tensor,
  shift: Tensor,
  attention: Tensor,
  options: AssignmentOptions,
  kernels: KernelChoice,
): { readonly assignment: Tensor; readonly mass: Tensor } {
  const { groups, clusters, layout } = options;
  const result = tidy(() => {
    if (kernels.fused) return assignFrozenFused(logits, attention, scale, shift, layout.frameCounts);
    const rows = layout.frames * groups;
    const share = softmax(reshape(addBias(multiply(logits, scale), shift), [rows, clusters]));
    const assignment = multiply(share, reshape(sigmoid(attention), [rows, 1]));
    return { assignment, mass: sumOverFrames(assignment, options) };
  });
  release(logits, attention);
  return result;
}
