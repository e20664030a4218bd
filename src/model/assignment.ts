import { addBias, divideNoNan, multiply, reshape, sigmoid, sigmoidGradient, softmax, subtract, sum } from "../tensorflow/kernels.js";
import { type Tensor, tidy } from "../tensorflow/runtime.js";
import { normaliseBatch } from "./batch-norm.js";
import { release, type TrainingContext } from "./block.js";
import type { BatchNormNames } from "./parameters.js";

export interface AssignmentOptions {
  readonly groups: number;
  readonly clusters: number;
  readonly norm: BatchNormNames;
}

export interface Assignment {
  /** `[frames G, K]`: how much of each group of each frame goes to each cluster. */
  readonly assignment: Tensor;
  readonly backward: (dAssignment: Tensor) => { readonly logits: Tensor; readonly attention: Tensor };
}

/**
 * Soft assignment: softmax over K of the normalised cluster logits, times the group's attention.
 * Takes over `logits` `[frames, G K]` and `attention` `[frames, G]` (before its sigmoid); `offset` `[G K]` as in `normaliseBatch`.
 */
export function assign(
  logits: Tensor,
  offset: Tensor,
  attention: Tensor,
  options: AssignmentOptions,
  context: TrainingContext,
): Assignment {
  const { groups, clusters } = options;
  const frames = logits.shape[0] as number;
  const rows = frames * groups;
  const normalised = normaliseBatch(logits, options.norm, context, offset);
  const gate = sigmoid(attention);
  const assignment = tidy(() => multiply(softmax(reshape(normalised.y, [rows, clusters])), reshape(gate, [rows, 1])));
  release(normalised.y, attention);

  // With a = softmax(y) g and r = sum_k(da softmax(y)): dy = a (da - r) and dg = r. Only `a` and `g` are kept: r = sum_k(da a) / g.
  const backward = (dAssignment: Tensor) => {
    const [dNormalised, dAttention] = tidy(() => {
      const weighted = multiply(dAssignment, assignment);
      dAssignment.dispose();
      const dGate = divideNoNan(sum(weighted, [1], true), reshape(gate, [rows, 1]));
      const dScores = subtract(weighted, multiply(assignment, dGate));
      return [reshape(dScores, [frames, groups * clusters]), sigmoidGradient(gate, reshape(dGate, [frames, groups]))];
    }) as [Tensor, Tensor];
    release(assignment, gate);
    return { logits: normalised.backward(dNormalised), attention: dAttention };
  };
  return { assignment, backward };
}

/** The same with frozen statistics, which the caller has folded into `logits` and `bias` `[G K]`. Takes logits and attention over. */
export function assignFrozen(logits: Tensor, bias: Tensor, attention: Tensor, options: AssignmentOptions): Tensor {
  const { groups, clusters } = options;
  const rows = (logits.shape[0] as number) * groups;
  const assignment = tidy(() => {
    const share = softmax(reshape(addBias(logits, bias), [rows, clusters]));
    return multiply(share, reshape(sigmoid(attention), [rows, 1]));
  });
  release(logits, attention);
  return assignment;
}
