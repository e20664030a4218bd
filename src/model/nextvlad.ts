/**
 * NeXtVLAD of one modality, forward and backward (Lin, Xiao, Fan: "NeXtVLAD: An Efficient Neural Network to Aggregate Frame-level Features for
 * Large-scale Video Classification", arXiv:1811.05014, section 3; parameters as in PaddleVideo v1.5.1, models/nextvlad/nextvlad_model.py).
 *
 *   N        frames of all videos of the batch, back to back
 *   F        features of a frame
 *   lambda   expansion of the features: D = lambda F
 *   G        groups of a frame's expanded features, of P = D / G values each
 *   K        clusters
 *
 * The paper writes M for the frames of a video and N for F. Its x-dot is x1, its alpha_g is sigmoid(alpha), its alpha_gk is the softmax (with a bias in place of
 * the batch norm), and its y_jk is v_k.
 *
 *   x1    = x W + b                          [N, D]
 *   alpha = x1 Wa + ba                       [N, G]       the attention before its sigmoid
 *   z     = x1 Wc                            [N, G K]     the cluster logits
 *   a     = softmax_K(BN(z)) sigmoid(alpha)  [N G, K]     the assignment of each group of each frame to the clusters
 *   v_k   = sum_t sum_g a_tgk (x1_tg - c_k)  [P, K]       of each video; with aSum, the sum of a over frames, c enters only as aSum c
 *   y     = BN(v_k / |v_k|)                  [P K]
 *
 * The expansion has no activation, so W folds into the products after it: x1 Wc = x (W Wc) + b Wc, and x1 Wa = x (W Wa) + b Wa. This is exact up to rounding,
 * and needs 1.3x less arithmetic per frame. So x1 is computed without b, which is added with aSum; and z without b Wc, a shift that the batch norm cancels
 * (it is added to the mean for the moving statistics).
 *
 *   foldedClusters       = W Wc         [F, G K]
 *   foldedClustersBias   = b Wc         [G K]
 *   foldedAttention      = W Wa         [F, G]
 *   foldedAttentionBias  = b Wa + ba    [G]
 */

import { add, addAll, multiply, reshape, sum } from "../kernels/tensorflow-ops.js";
import type { Kernels } from "../kernels/types.js";
import { constant } from "../runtime/constants.js";
import { release, type Tensor, tidy } from "../runtime/tensor.js";
import type { Aggregation, Aggregator } from "./aggregator.js";
import { quantizationOf } from "./dequantize.js";
import { batchNorm, frozenBatchNorm, type TrainingContext, useAffine } from "./layers.js";
import { netvladNames } from "./netvlad.js";
import { BATCH_NORM_EPSILON, batchNormParameters, bias, DESCRIPTOR_NORM, matrix, PADDLE_MODALITY } from "./parameters.js";
import type { ModalityName } from "./sizes.js";
import type { Weights } from "./weights.js";

export const NEXTVLAD: Aggregator = {
  parameters: ({ name, features, clusters, groups, expanded, groupSize }) => {
    const names = nextvladNames(name);
    return [
      matrix(names.expansion, [features, expanded]),
      bias(names.expansionBias, expanded),
      matrix(names.attention, [expanded, groups]),
      bias(names.attentionBias, groups),
      matrix(names.clusters, [expanded, groups * clusters]),
      ...batchNormParameters(names.clusterNorm, groups * clusters),
      matrix(names.centers, [clusters, groupSize]),
      ...batchNormParameters(names.descriptorNorm, clusters * groupSize),
    ];
  },
  descriptorLength: ({ clusters, groupSize }) => clusters * groupSize,
  inferSizes: (modality, shapeOf) => {
    const names = nextvladNames(modality);
    const [features = 1, expanded = 1] = shapeOf(names.expansion, 2);
    const [, groups = 1] = shapeOf(names.attention, 2);
    const [clusters = 1] = shapeOf(names.centers, 2);
    return { features, expansion: expanded / features, groups, clusters };
  },
  aggregate,
  normalize: (descriptors, { name }, context) => batchNorm(descriptors, DESCRIPTOR_NORM[name], context),
  freeze,
  addToGraph,
};

/** Returns the names of one modality's parameters, with the paper's symbols: NetVLAD's Wc, c and cluster norm, and those of the expansion and attention. */
export function nextvladNames(modality: ModalityName) {
  const prefix = PADDLE_MODALITY[modality];
  return {
    ...netvladNames(modality),
    /** W and b. */
    expansion: `${prefix}_fc_expansion_w`,
    expansionBias: `${prefix}_fc_expansion_b`,
    /** Wa and ba. */
    attention: `${prefix}_fc_group_attention_w`,
    attentionBias: `${prefix}_fc_group_attention_b`,
    descriptorNorm: DESCRIPTOR_NORM[modality],
  } as const;
}

function* aggregate(...[bytes, layout, modality, context, batchFrames]: Parameters<Aggregator["aggregate"]>): Aggregation {
  const { kernels, weights, onGradient } = context;
  const names = nextvladNames(modality.name);
  const use = weights.use.bind(weights);

  const x = kernels.features(bytes, layout.frames, quantizationOf(modality, weights));
  const folded = foldExpansion(modality.name, weights, kernels);
  const z = x.times(folded.foldedClusters);
  const [moments] = (yield [kernels.moments(z)]) as [Tensor];

  const x1 = use(names.expansion, (w) => x.times(w));
  const alpha = x.times(folded.foldedAttention, folded.foldedAttentionBias);
  const soft = useAffine(names.clusterNorm, weights, (norm) => kernels.softAssign(z, alpha, moments, norm, layout, BATCH_NORM_EPSILON));
  tidy(() => context.onBatchStatistics(names.clusterNorm, add(soft.mean, folded.foldedClustersBias), soft.variance));
  release(...Object.values(folded));

  const vlad = kernels.vladSums(soft.assignment, x1, layout, modality.groups);
  const descriptor = use(names.expansionBias, (b) => use(names.centers, (c) => kernels.descriptor(vlad.sums, soft.aSum, b, c)));
  const [dDescriptor] = (yield [descriptor.y]) as [Tensor];

  const d = use(names.expansionBias, (b) => use(names.centers, (c) => descriptor.backward(dDescriptor, b, c)));
  const dSums = vlad.backward(d.sums);
  onGradient(names.centers, d.centers);
  const dSoft = soft.backward(dSums.assignment, d.aSum);
  const [scale, shift] = (yield [dSoft.scale, dSoft.shift]) as [Tensor, Tensor];

  const dz = use(names.clusterNorm.scale, (gamma) => dSoft.z(gamma, { scale, shift }, batchFrames));
  onGradient(names.clusterNorm.scale, dSoft.scale);
  onGradient(names.clusterNorm.shift, dSoft.shift);
  const dW = x.transposedTimes(dSums.x1);
  dSums.x1.dispose();
  const dFoldedClusters = x.transposedTimes(dz);
  dz.dispose();
  const dFoldedAttention = x.transposedTimes(dSoft.alpha);
  x.dispose();
  const gradients = unfoldGradients(modality.name, context, {
    expansion: dW,
    foldedClusters: dFoldedClusters,
    foldedAttention: dFoldedAttention,
    alpha: dSoft.alpha,
    expansionBias: d.bias,
  });
  for (const [name, gradient] of gradients) onGradient(name, gradient);
}

/** Returns the folded products W Wc `[F, G K]`, b Wc `[G K]`, W Wa `[F, G]` and b Wa + ba `[G]`, float32. The caller owns them. */
function foldExpansion(modality: ModalityName, weights: Weights, { matMul }: Kernels) {
  const names = nextvladNames(modality);
  const use = weights.use.bind(weights);
  return tidy(() =>
    use(names.expansion, (w) =>
      use(names.expansionBias, (b) => ({
        ...use(names.clusters, (wc) => ({ foldedClusters: matMul(w, wc), foldedClustersBias: rowTimes(b, wc, matMul) })),
        ...use(names.attention, (wa) => ({
          foldedAttention: matMul(w, wa),
          foldedAttentionBias: use(names.attentionBias, (ba) => add(rowTimes(b, wa, matMul), ba)),
        })),
      })),
    ),
  );
}

/** Returns `b w`, `[columns]`, for b `[n]` and w `[n, columns]`. */
function rowTimes(b: Tensor, w: Tensor, matMul: Kernels["matMul"]): Tensor {
  const [rows, columns] = w.shape as [number, number];
  return reshape(matMul(reshape(b, [1, rows]), w), [columns]);
}

/** Gradients of the factors of the products with the features, and of the other terms that contain b. */
interface FoldedGradients {
  /** Of W in x W `[F, D]`, of W Wc `[F, G K]`, and of W Wa `[F, G]`. */
  readonly expansion: Tensor;
  readonly foldedClusters: Tensor;
  readonly foldedAttention: Tensor;
  /** Of alpha `[N, G]`: its sum over frames is that of b Wa + ba. */
  readonly alpha: Tensor;
  /** Of b through the descriptor `[D]`. */
  readonly expansionBias: Tensor;
}

/** Returns the parameters' gradients, given those of the folded products. b Wc has none: the batch norm cancels a shift. Takes ownership of `d`. */
function unfoldGradients(
  modality: ModalityName,
  { weights, kernels }: TrainingContext,
  d: FoldedGradients,
): readonly (readonly [string, Tensor])[] {
  const { matMul } = kernels;
  const names = nextvladNames(modality);
  const use = weights.use.bind(weights);
  const gradients = tidy(() => {
    const dAttentionBias = sum(d.alpha, [0]);
    const row = reshape(dAttentionBias, [1, dAttentionBias.shape[0] as number]);
    const expanded = d.expansionBias.shape[0] as number;
    const expansionThroughClusters = use(names.clusters, (wc) => matMul(d.foldedClusters, wc, { transposeB: true }));
    const expansionThroughAttention = use(names.attention, (wa) => matMul(d.foldedAttention, wa, { transposeB: true }));
    const biasThroughAttention = use(names.attention, (wa) => reshape(matMul(row, wa, { transposeB: true }), [expanded]));
    const dClusters = use(names.expansion, (w) => matMul(w, d.foldedClusters, { transposeA: true }));
    const dAttention = use(names.expansion, (w) =>
      use(names.expansionBias, (b) => add(matMul(w, d.foldedAttention, { transposeA: true }), matMul(reshape(b, [expanded, 1]), row))),
    );
    return [
      [names.expansion, addAll([d.expansion, expansionThroughClusters, expansionThroughAttention])],
      [names.expansionBias, add(d.expansionBias, biasThroughAttention)],
      [names.attention, dAttention],
      [names.attentionBias, dAttentionBias],
      [names.clusters, dClusters],
    ] as const;
  });
  release(...Object.values(d));
  return gradients;
}

/** Folds the batch norm of the cluster logits into their shift, and the factor of the descriptor into its batch norm. */
function freeze(
  ...[modality, { weights, kernels, precision, factor }]: Parameters<Aggregator["freeze"]>
): ReturnType<Aggregator["freeze"]> {
  const names = nextvladNames(modality.name);
  return tidy(() => {
    const { foldedClusters, foldedClustersBias, foldedAttention, foldedAttentionBias } = foldExpansion(modality.name, weights, kernels);
    const { scale, shift } = frozenBatchNorm(names.clusterNorm, weights);
    const norm = frozenBatchNorm(names.descriptorNorm, weights);
    return kernels.freezeNextvlad(
      {
        groups: modality.groups,
        quantization: quantizationOf(modality, weights),
        foldedClusters,
        clusterNorm: { scale, shift: add(multiply(foldedClustersBias, scale), shift) },
        foldedAttention,
        foldedAttentionBias,
        expansion: weights.variable(names.expansion),
        expansionBias: weights.variable(names.expansionBias),
        centers: weights.variable(names.centers),
        descriptorNorm: { scale: multiply(norm.scale, constant(factor)), shift: multiply(norm.shift, constant(factor)) },
      },
      precision,
    );
  });
}

function addToGraph(...[graph, modality, layout]: Parameters<Aggregator["addToGraph"]>): string {
  const { groups, clusters, groupSize } = modality;
  const names = nextvladNames(modality.name);
  const path = PADDLE_MODALITY[modality.name];
  const x1 = graph.add(`${path}/expanded`, "Gemm", [graph.addFeatures(path, modality.name), names.expansion, names.expansionBias]);

  const at = (name: string): string => `${path}/assignment/${name}`;
  const alpha = graph.add(at("attention/logits"), "Gemm", [x1, names.attention, names.attentionBias]);
  const attention = graph.add(at("attention"), "Unsqueeze", [graph.add(at("attention/flat"), "Sigmoid", [alpha]), graph.ints(-1)]);
  const z = graph.addBatchNorm(at("logits"), graph.add(at("product"), "MatMul", [x1, names.clusters]), names.clusterNorm);
  const grouped = graph.add(at("grouped"), "Reshape", [z, graph.ints(-1, groups, clusters)]);
  const softmax = graph.add(at("softmax"), "Softmax", [grouped], { axis: { int: -1 } });
  const weighted = graph.add(at("weighted"), "Mul", [softmax, attention]);
  const perFrame = graph.add(at("flat"), "Reshape", [weighted, graph.ints(-1, groups * clusters)]);

  const a = graph.addPadding(`${path}/assignment`, perFrame, layout, clusters, { mask: true });
  const x = graph.addPadding(`${path}/groups`, x1, layout, groupSize, { mask: false });
  const flat = graph.add(`${path}/flat`, "Reshape", [graph.addVlad(path, x, a, names.centers), graph.ints(-1, groupSize * clusters)]);
  return graph.addBatchNorm(`${path}/descriptor`, flat, names.descriptorNorm);
}
