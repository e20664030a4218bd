/**
 * NetVLAD of one modality, forward and backward (Arandjelovic et al.: "NetVLAD: CNN architecture for weakly supervised place recognition", CVPR 2016,
 * arXiv:1511.07247, section 3; on frames of videos as in Miech, Laptev, Sivic: "Learnable pooling with Context Gating for video classification",
 * arXiv:1706.06905).
 *
 *   N        frames of all videos of the batch, back to back
 *   F        features of a frame
 *   K        clusters
 *
 *   z     = x Wc                     [N, K]   the cluster logits
 *   a     = softmax_K(BN(z))         [N, K]   the assignment of each frame to the clusters
 *   v_k   = sum_t a_tk (x_t - c_k)   [F, K]   of each video; with aSum, the sum of a over frames, c enters only as aSum c
 *   u_k   = v_k / |v_k|              [F, K]   intra-normalization
 *   y     = u / |u|                  [F K]
 *
 * These are the kernels of NeXtVLAD with one group (P = F), without an expansion, and with an attention of 1.
 */

import { NextvladError } from "../base/errors.js";
import { L2_EPSILON } from "../kernels/reference.js";
import { add, multiply, rsqrt, square, subtract, sum } from "../kernels/tensorflow-ops.js";
import { constant, fill } from "../runtime/constants.js";
import { keep, release, type Tensor, tidy } from "../runtime/tensor.js";
import type { Aggregation, Aggregator } from "./aggregator.js";
import { quantizationOf } from "./dequantize.js";
import { frozenBatchNorm, type Layer, useAffine } from "./layers.js";
import { BATCH_NORM_EPSILON, batchNormParameters, CLUSTER_NORM, matrix, PADDLE_MODALITY } from "./parameters.js";
import type { ModalityName } from "./sizes.js";

const GROUPS = 1;
/** The attention before its sigmoid: in float32, sigmoid(100) is exactly 1, and its derivative 0. */
const FULL_ATTENTION = 100;

export const NETVLAD: Aggregator = {
  parameters: ({ name, features, clusters }) => {
    const names = netvladNames(name);
    return [
      matrix(names.clusters, [features, clusters]),
      ...batchNormParameters(names.clusterNorm, clusters),
      matrix(names.centers, [clusters, features]),
    ];
  },
  descriptorLength: ({ features, clusters }) => features * clusters,
  inferSizes: (modality, shapeOf) => {
    const [features = 1, clusters = 1] = shapeOf(netvladNames(modality).clusters, 2);
    return { features, expansion: 1, groups: GROUPS, clusters };
  },
  aggregate,
  normalize: l2Norm,
  freeze,
  addToGraph,
};

/** Returns the names of one modality's parameters: those that NeXtVLAD has too. */
export function netvladNames(modality: ModalityName) {
  const prefix = PADDLE_MODALITY[modality];
  return {
    /** Wc. */
    clusters: `${prefix}_cluster_weights`,
    /** c. */
    centers: `${prefix}_cluster_weights2`,
    clusterNorm: CLUSTER_NORM[modality],
  } as const;
}

function* aggregate(...[bytes, layout, modality, context, batchFrames]: Parameters<Aggregator["aggregate"]>): Aggregation {
  const { kernels, weights, onGradient } = context;
  const { clusters, centers, clusterNorm } = netvladNames(modality.name);

  const quantization = quantizationOf(modality, weights);
  const x = kernels.dequantize(bytes, layout.frames, quantization);
  release(...Object.values(quantization));
  const z = weights.use(clusters, (wc) => kernels.matMul(x, wc));
  const [moments] = (yield [kernels.moments(z)]) as [Tensor];

  const alpha = fill([layout.frames, GROUPS], FULL_ATTENTION);
  const soft = useAffine(clusterNorm, weights, (norm) => kernels.softAssign(z, alpha, moments, norm, layout, BATCH_NORM_EPSILON));
  context.onBatchStatistics(clusterNorm, soft.mean, soft.variance);

  const vlad = kernels.vladSums(soft.assignment, x.clone(), layout, GROUPS);
  const noBias = fill([modality.features], 0);
  const descriptor = weights.use(centers, (c) => kernels.descriptor(vlad.sums, soft.aSum, noBias, c));
  const [dDescriptor] = (yield [descriptor.y]) as [Tensor];

  const d = weights.use(centers, (c) => descriptor.backward(dDescriptor, noBias, c));
  const dSums = vlad.backward(d.sums);
  release(noBias, d.bias, dSums.x1);
  onGradient(centers, d.centers);
  const dSoft = soft.backward(dSums.assignment, d.aSum);
  const [scale, shift] = (yield [dSoft.scale, dSoft.shift]) as [Tensor, Tensor];

  const dz = weights.use(clusterNorm.scale, (gamma) => dSoft.z(gamma, { scale, shift }, batchFrames));
  onGradient(clusterNorm.scale, dSoft.scale);
  onGradient(clusterNorm.shift, dSoft.shift);
  const dClusters = kernels.matMul(x, dz, { transposeA: true });
  release(x, dz, dSoft.alpha);
  onGradient(clusters, dClusters);
}

/** Scales each row of `[rows, columns]` to length 1: y = x / sqrt(sum of x^2 + L2_EPSILON). */
function l2Norm(x: Tensor): Layer {
  const inverse = inverseLength(x);
  const y = multiply(x, inverse);
  x.dispose();
  const kept = y.clone();
  const backward = (dy: Tensor): Tensor => {
    const dx = tidy(() => multiply(subtract(dy, multiply(kept, sum(multiply(dy, kept), [1], true))), inverse));
    release(dy, kept, inverse);
    return dx;
  };
  return { y, backward };
}

/** Returns 1 / sqrt(sum of x^2 + L2_EPSILON) of each row of `[rows, columns]`: `[rows, 1]`. */
function inverseLength(x: Tensor): Tensor {
  return tidy(() => rsqrt(add(sum(square(x), [1], true), constant(L2_EPSILON))));
}

function freeze(
  ...[modality, { weights, kernels, precision, factor }]: Parameters<Aggregator["freeze"]>
): ReturnType<Aggregator["freeze"]> {
  if (precision === "int16" || precision === "int8") {
    const remedy = "use --precision float32";
    throw new NextvladError("BAD_USAGE", `NETVLAD does not support ${precision}`, { key: "--precision", remedy });
  }
  const names = netvladNames(modality.name);
  const quantization = quantizationOf(modality, weights);
  const norm = frozenBatchNorm(names.clusterNorm, weights);
  const owned = [...Object.values(quantization), ...Object.values(norm)] as Tensor[];
  for (const tensor of owned) keep(tensor);
  return {
    aggregate: (bytes, layout) =>
      tidy(() => {
        const x = kernels.dequantize(bytes, layout.frames, quantization);
        const z = weights.use(names.clusters, (wc) => kernels.matMul(x, wc));
        const { assignment, aSum } = kernels.softAssignFrozen(z, fill([layout.frames, GROUPS], FULL_ATTENTION), norm, layout);
        const { sums, dispose } = kernels.vladSums(assignment, x, layout, GROUPS);
        dispose();
        const noBias = fill([modality.features], 0);
        const { y } = weights.use(names.centers, (c) => kernels.descriptor(sums, aSum, noBias, c));
        return multiply(y, multiply(inverseLength(y), constant(factor)));
      }),
    dispose: () => release(...owned),
  };
}

function addToGraph(...[graph, modality, layout]: Parameters<Aggregator["addToGraph"]>): string {
  const { features, clusters } = modality;
  const names = netvladNames(modality.name);
  const path = PADDLE_MODALITY[modality.name];
  const frames = graph.addFeatures(path, modality.name);
  const product = graph.add(`${path}/assignment/product`, "MatMul", [frames, names.clusters]);
  const z = graph.addBatchNorm(`${path}/assignment/logits`, product, names.clusterNorm);
  const softmax = graph.add(`${path}/assignment/softmax`, "Softmax", [z], { axis: { int: -1 } });
  const a = graph.addPadding(`${path}/assignment`, softmax, layout, clusters, { mask: true });
  const x = graph.addPadding(`${path}/frames`, frames, layout, features, { mask: false });
  const flat = graph.add(`${path}/flat`, "Reshape", [graph.addVlad(path, x, a, names.centers), graph.ints(-1, features * clusters)]);
  return graph.addL2Norm(flat, 1);
}
