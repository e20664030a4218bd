import { add, addAll, matMul, multiply, relu, reluGradient, sigmoid, sigmoidGradient } from "../tensorflow/kernels.js";
import { type Tensor, tidy } from "../tensorflow/runtime.js";
import { frozenBatchNorm, normaliseBatch } from "./batch-norm.js";
import { release, type TrainingContext, type Weights } from "./block.js";
import { dense } from "./dense.js";
import { batchNormNames } from "./parameters.js";

export const GATE_REDUCE = "gating_fc1_weights";
export const GATE_EXPAND = "gating_fc2_weights";
export const GATE_NORM = batchNormNames(5);

/** The squeeze-and-excitation gate: h * sigmoid(relu(bn(h W1)) W2). `[videos, hidden]` (taken over) to the same. */
export function applyGate(h: Tensor, context: TrainingContext): { readonly y: Tensor; readonly backward: (dy: Tensor) => Tensor } {
  const reduced = dense(h.clone(), GATE_REDUCE, context);
  const normalised = normaliseBatch(reduced.y, GATE_NORM, context);
  const active = relu(normalised.y);
  normalised.y.dispose();
  const expanded = dense(active.clone(), GATE_EXPAND, context);
  const gate = sigmoid(expanded.y);
  expanded.y.dispose();
  const y = multiply(h, gate);

  const backward = (dy: Tensor): Tensor => {
    const direct = multiply(dy, gate);
    const dGate = multiply(dy, h);
    release(dy, h);
    const dExpanded = sigmoidGradient(gate, dGate);
    release(gate, dGate);
    const dActive = expanded.backward(dExpanded);
    const dNormalised = reluGradient(dActive, active);
    release(dActive, active);
    const through = reduced.backward(normalised.backward(dNormalised));
    const dh = addAll([direct, through]);
    release(direct, through);
    return dh;
  };
  return { y, backward };
}

/** What the frozen gate reads, prepared once. */
export interface FrozenGate {
  readonly scale: Tensor;
  readonly shift: Tensor;
}

export function freezeGate(weights: Weights): FrozenGate {
  return frozenBatchNorm(GATE_NORM, weights);
}

/** The gate with moving statistics. Takes `h` over. */
export function applyFrozenGate(h: Tensor, gate: FrozenGate, weights: Weights): Tensor {
  const y = tidy(() => {
    const reduced = weights.use(GATE_REDUCE, (w) => matMul(h, w));
    const active = relu(add(multiply(reduced, gate.scale), gate.shift));
    return multiply(h, sigmoid(weights.use(GATE_EXPAND, (w) => matMul(active, w))));
  });
  h.dispose();
  return y;
}
