/**
 * The classifier: the gated hidden layer `[videos, hidden]` to logits `[videos, classes]`, whose sigmoid is the probability of each class.
 *
 *   logits = h W + b
 */
import { addBias, sum } from "../kernels/tensorflow-ops.js";
import type { FrozenDense, Kernels } from "../kernels/types.js";
import type { Tensor } from "../runtime/runtime.js";
import { dense, type Layer, type TrainingContext } from "./layers.js";
import type { OnnxGraph } from "./onnx-graph.js";
import { bias, CLASSIFIER, CLASSIFIER_BIAS, matrix, type Parameter } from "./parameters.js";
import type { ModelSizes } from "./sizes.js";
import type { WeightStore } from "./weights.js";

/** Returns the classifier's arrays, in order of creation. `TRAIN.l2_penalty` decays all of them. */
export function classifierParameters({ hidden, classes }: ModelSizes): readonly Parameter[] {
  return [matrix(CLASSIFIER, [hidden, classes], { decayed: true }), bias(CLASSIFIER_BIAS, classes, { decayed: true })];
}

/** The classifier in training. */
export function classify(h: Tensor, context: TrainingContext): Layer {
  return affine(h, CLASSIFIER, CLASSIFIER_BIAS, context);
}

/** `h w + b` of the named matrix and bias. */
function affine(h: Tensor, w: string, b: string, context: TrainingContext): Layer {
  const product = dense(h, w, context);
  const y = context.weights.use(b, (value) => addBias(product.y, value));
  product.y.dispose();
  const backward = (dy: Tensor): Tensor => {
    const dBias = sum(dy, [0]);
    const dh = product.backward(dy);
    context.onGradient(b, dBias);
    return dh;
  };
  return { y, backward };
}

/** Prepares the classifier with frozen weights. */
export function freezeClassifier(weights: WeightStore, kernels: Kernels): FrozenDense {
  return kernels.freezeDense(weights.variable(CLASSIFIER), { shift: weights.use(CLASSIFIER_BIAS, (value) => value.clone()) });
}

/** Adds the frozen classifier of `h` to a graph; returns the name of the logits. */
export function addClassifierToGraph(graph: OnnxGraph, h: string): string {
  return graph.add("logits", "Gemm", [h, CLASSIFIER, CLASSIFIER_BIAS]);
}
