/**
 * The classifier: the gated hidden layer h `[videos, hidden]` to logits `[videos, classes]`, whose sigmoid is the probability of each class. All losses and
 * metrics read the logits.
 *
 * With MODEL.num_mixtures 1, it is logistic: logits = h W + b.
 *
 * With M > 1, it is the mixture of M experts of google/youtube-8m (video_level_models.py, MoeModel; Jordan and Jacobs 1994): each class has M logistic experts
 * e = h We + be and M + 1 gates u = h Wu; the last gate belongs to an expert that always predicts 0.
 *
 *   p   = sum_m g_m sigmoid(e_m)           with g = softmax(u_1, ..., u_M, u_0)
 *
 * That code adds 1e-7 to p and 1 - p in the logarithms of the cross entropy. Here the logit of p is computed from e and u, without p, so that the cross entropy
 * is exact and its gradient bounded for all values:
 *
 *   l   = log p - log(1 - p) = lse_m(yes_m) - lse(no_1, ..., no_M, u_0)
 *   yes = u - softplus(-e)                 the logarithms of g_m sigmoid(e_m), but for a term that cancels
 *   no  = u - softplus(e)                  those of g_m (1 - sigmoid(e_m))
 *
 * where lse is the logarithm of a sum of exponentials. With a = softmax(yes) and b = softmax(no, u_0): dl/du_m = a_m - b_m, dl/du_0 = -b_0, and
 * dl/de_m = a_m (1 - sigmoid(e_m)) + b_m sigmoid(e_m).
 */
import {
  addAll,
  concat,
  logSoftmax,
  multiply,
  negate,
  reshape,
  sigmoid,
  slice,
  softmax,
  softplus,
  subtract,
  sum,
} from "../kernels/tensorflow-ops.js";
import type { FrozenDense, Kernels } from "../kernels/types.js";
import { release, type Tensor, tidy } from "../runtime/tensor.js";
import { affine, dense, type Layer, type TrainingContext } from "./layers.js";
import type { OnnxGraph } from "./onnx-graph.js";
import { bias, matrix, type Parameter } from "./parameters.js";
import type { ModelSizes, Shape } from "./sizes.js";
import type { Weights } from "./weights.js";

const LOGITS = "logits_clf_weights";
const LOGITS_BIAS = "logits_clf_bias";
/** Wu; the columns of a class are consecutive, its gate u_0 last. */
const GATES = "gates_clf_weights";
/** We and be; the columns of a class are consecutive. */
const EXPERTS = "experts_clf_weights";
const EXPERTS_BIAS = "experts_clf_bias";

const isLogistic = ({ mixtures }: Pick<ModelSizes, "mixtures">): boolean => mixtures === 1;

/** Returns the classifier's arrays, in order of creation. `TRAIN.l2_penalty` decays all of them. */
export function classifierParameters(sizes: ModelSizes): readonly Parameter[] {
  const { hidden, classes, mixtures } = sizes;
  const decayed = { decayed: true };
  if (isLogistic(sizes)) return [matrix(LOGITS, [hidden, classes], decayed), bias(LOGITS_BIAS, classes, decayed)];
  return [
    matrix(GATES, [hidden, classes * (mixtures + 1)], decayed),
    matrix(EXPERTS, [hidden, classes * mixtures], decayed),
    bias(EXPERTS_BIAS, classes * mixtures, decayed),
  ];
}

/** Returns the number of columns of the classifier's products. */
export function classifierColumns({ classes, mixtures }: Pick<ModelSizes, "classes" | "mixtures">): number {
  return isLogistic({ mixtures }) ? classes : classes * (2 * mixtures + 1);
}

/** Returns the name of the classifier's bias: the parameter that is updated first in a step. */
export function classifierBias(sizes: Pick<ModelSizes, "mixtures">): string {
  return isLogistic(sizes) ? LOGITS_BIAS : EXPERTS_BIAS;
}

/**
 * Infers the number of classes and of experts per class. `has` returns whether an array exists; `shapeOf` returns the dimensions of an array that should have
 * `rank` of them.
 */
export function inferClassifier(
  has: (name: string) => boolean,
  shapeOf: (name: string, rank: number) => Shape,
): { readonly classes: number; readonly mixtures: number } {
  if (!has(EXPERTS_BIAS)) {
    const [classes = 1] = shapeOf(LOGITS_BIAS, 1);
    return { classes, mixtures: 1 };
  }
  const [experts = 1] = shapeOf(EXPERTS_BIAS, 1);
  const [, gates = experts + 1] = shapeOf(GATES, 2);
  return { classes: gates - experts, mixtures: experts / (gates - experts) };
}

/** The classifier in training. */
export function classify(h: Tensor, sizes: ModelSizes, context: TrainingContext): Layer {
  return isLogistic(sizes) ? affine(h, LOGITS, LOGITS_BIAS, context) : mixtureOfExperts(h, sizes, context);
}

function mixtureOfExperts(h: Tensor, { classes, mixtures }: ModelSizes, context: TrainingContext): Layer {
  const videos = h.shape[0] as number;
  const gates = dense(h.clone(), GATES, context);
  const experts = affine(h, EXPERTS, EXPERTS_BIAS, context);
  const { logits, ...kept } = tidy(() => {
    const e = reshape(experts.y, [videos * classes, mixtures]);
    const { yes, no } = logProbabilities(gates.y, e);
    const [a, b] = [softmax(yes), softmax(no)];
    const logits = reshape(subtract(logSumExp(yes, a), logSumExp(no, b)), [videos, classes]);
    return { logits, a, b, s: sigmoid(e) };
  });
  release(gates.y, experts.y);

  const backward = (dy: Tensor): Tensor => {
    const { a, b, s } = kept;
    const [dGates, dExperts] = tidy(() => {
      const rows = videos * classes;
      const d = reshape(dy, [rows, 1]);
      const [ofExperts, ofDummy] = splitGates(b);
      const toExperts = subtract(a, ofExperts);
      const dGates = multiply(d, concat([toExperts, negate(ofDummy)], 1));
      const dExperts = multiply(d, subtract(a, multiply(s, toExperts)));
      return [reshape(dGates, [videos, classes * (mixtures + 1)]), reshape(dExperts, [videos, classes * mixtures])] as const;
    });
    release(dy, a, b, s);
    const throughExperts = experts.backward(dExperts);
    const throughGates = gates.backward(dGates);
    const dh = addAll([throughExperts, throughGates]);
    release(throughExperts, throughGates);
    return dh;
  };
  return { y: logits, backward };
}

/** Returns yes `[rows, M]` and no with u_0 `[rows, M + 1]`, of the gates `[videos, classes (M + 1)]` and the experts `[rows, M]`; rows: videos x classes */
function logProbabilities(gates: Tensor, e: Tensor): { readonly yes: Tensor; readonly no: Tensor } {
  const [rows, mixtures] = e.shape as [number, number];
  const [u, dummy] = splitGates(reshape(gates, [rows, mixtures + 1]));
  return { yes: subtract(u, softplus(negate(e))), no: concat([subtract(u, softplus(e)), dummy], 1) };
}

/** Returns the first M columns and the last one of `[rows, M + 1]`. */
function splitGates(x: Tensor): readonly [Tensor, Tensor] {
  const [rows, columns] = x.shape as [number, number];
  return [slice(x, [0, 0], [rows, columns - 1]), slice(x, [0, columns - 1], [rows, 1])];
}

/** Returns lse of each row, `[rows, 1]`, given its softmax: the average of x - logSoftmax(x), which is the same for all columns. */
function logSumExp(x: Tensor, shares: Tensor): Tensor {
  return sum(multiply(shares, subtract(x, logSoftmax(x))), [1], true);
}

/** Prepares the classifier with frozen weights. */
export function freezeClassifier(sizes: ModelSizes, weights: Weights, kernels: Kernels): FrozenDense {
  const affine = (w: string, b: string): FrozenDense =>
    kernels.freezeDense(weights.variable(w), { shift: weights.use(b, (value) => value.clone()) });
  if (isLogistic(sizes)) return affine(LOGITS, LOGITS_BIAS);
  const { classes, mixtures } = sizes;
  const gates = kernels.freezeDense(weights.variable(GATES), {});
  const experts = affine(EXPERTS, EXPERTS_BIAS);
  return {
    apply: (h) =>
      tidy(() => {
        const videos = h.shape[0] as number;
        const { yes, no } = logProbabilities(gates.apply(h), reshape(experts.apply(h), [videos * classes, mixtures]));
        return reshape(subtract(logSumExp(yes, softmax(yes)), logSumExp(no, softmax(no))), [videos, classes]);
      }),
    dispose: () => {
      gates.dispose();
      experts.dispose();
    },
  };
}

/** Adds the frozen classifier of `h` to a graph; returns the name of the logits. */
export function addClassifierToGraph(graph: OnnxGraph, sizes: ModelSizes, h: string): string {
  if (isLogistic(sizes)) return graph.add("logits", "Gemm", [h, LOGITS, LOGITS_BIAS]);
  const { classes, mixtures } = sizes;
  const last = graph.ints(-1);
  const reshaped = (name: string, x: string, columns: number): string => graph.add(name, "Reshape", [x, graph.ints(-1, classes, columns)]);
  const u = reshaped("gates/all", graph.add("gates/flat", "MatMul", [h, GATES]), mixtures + 1);
  const e = reshaped("experts", graph.add("experts/flat", "Gemm", [h, EXPERTS, EXPERTS_BIAS]), mixtures);
  const gates = graph.add("gates", "Slice", [u, graph.ints(0), graph.ints(mixtures), last]);
  const dummy = graph.add("gates/dummy", "Slice", [u, graph.ints(mixtures), graph.ints(mixtures + 1), last]);
  const minus = (name: string, x: string): string => graph.add(name, "Sub", [gates, graph.add(`${name}/softplus`, "Softplus", [x])]);
  const yes = minus("yes", graph.add("experts/negative", "Neg", [e]));
  const no = graph.add("no/all", "Concat", [minus("no", e), dummy], { axis: { int: -1 } });
  const lse = (name: string, x: string): string => graph.add(name, "ReduceLogSumExp", [x, last], { keepdims: { int: 0 } });
  return graph.add("logits", "Sub", [lse("yes/log_sum", yes), lse("no/log_sum", no)]);
}
