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
 */

import type { RaggedLayout } from "../kernels/ragged.js";
import { add, addAll, matMul, multiply, reshape, sum } from "../kernels/tensorflow-ops.js";
import type { Kernels } from "../kernels/types.js";
import { release, type Tensor, tidy } from "../runtime/runtime.js";
import { quantizationOf } from "./dequantize.js";
import { BATCH_NORM_EPSILON, batchNorm, frozenBatchNorm, type TrainingContext, useAffine } from "./layers.js";
import { aggregatorNames, batchNormNames } from "./parameters.js";
import type { ModalitySizes, ModelSizes } from "./sizes.js";
import type { WeightStore } from "./weights.js";

/** Maps a modality's bytes `[N, F] uint8` to descriptors `[videos, P K]`. `backward` takes ownership of dy; the features, being data, have no gradient. */
export function aggregate(
  bytes: Uint8Array,
  layout: RaggedLayout,
  modality: ModalitySizes,
  { groups }: Pick<ModelSizes, "groups">,
  context: TrainingContext,
): { readonly y: Tensor; readonly backward: (dy: Tensor) => void } {
  const { kernels, weights, onGradient } = context;
  const names = aggregatorNames(modality);
  const clusterNorm = batchNormNames(modality.clusterNorm);
  const use = weights.use.bind(weights);

  const x = kernels.features(bytes, layout.frames, quantizationOf(modality, weights));
  const folded = foldExpansion(modality, weights);
  const x1 = use(names.expansion, (w) => x.times(w));
  const z = x.times(folded.clusters);
  const alpha = x.times(folded.attention, folded.attentionBias);

  const soft = useAffine(clusterNorm, weights, (norm) => kernels.softAssign(z, alpha, norm, layout, BATCH_NORM_EPSILON));
  tidy(() => context.onBatchStatistics(clusterNorm, add(soft.mean, folded.clustersBias), soft.variance));
  release(...Object.values(folded));

  const vlad = kernels.vladSums(soft.assignment, x1, layout, groups);
  const descriptor = use(names.expansionBias, (b) => use(names.centers, (c) => kernels.descriptor(vlad.sums, soft.aSum, b, c)));
  const normalized = batchNorm(descriptor.y, batchNormNames(modality.vladNorm), context);

  const backward = (dy: Tensor): void => {
    const dDescriptor = normalized.backward(dy);
    const d = use(names.expansionBias, (b) => use(names.centers, (c) => descriptor.backward(dDescriptor, b, c)));
    const dSums = vlad.backward(d.sums);
    onGradient(names.centers, d.centers);
    const dSoft = use(clusterNorm.scale, (scale) => soft.backward(dSums.assignment, d.aSum, scale));
    onGradient(clusterNorm.scale, dSoft.scale);
    onGradient(clusterNorm.shift, dSoft.shift);

    const dW = x.transposedTimes(dSums.x1);
    dSums.x1.dispose();
    const dFoldedClusters = x.transposedTimes(dSoft.z);
    dSoft.z.dispose();
    const dFoldedAttention = x.transposedTimes(dSoft.alpha);
    x.dispose();
    const gradients = unfoldGradients(modality, weights, {
      expansion: dW,
      clusters: dFoldedClusters,
      attention: dFoldedAttention,
      alpha: dSoft.alpha,
      expansionBias: d.bias,
    });
    for (const [name, gradient] of gradients) onGradient(name, gradient);
  };
  return { y: normalized.y, backward };
}

/** Returns W Wc `[F, G K]`, b Wc `[G K]`, W Wa `[F, G]` and b Wa + ba `[G]`. */
function foldExpansion(modality: ModalitySizes, weights: WeightStore) {
  const names = aggregatorNames(modality);
  const use = weights.use.bind(weights);
  return tidy(() =>
    use(names.expansion, (w) =>
      use(names.expansionBias, (b) => ({
        ...use(names.clusters, (wc) => ({ clusters: matMul(w, wc), clustersBias: rowTimes(b, wc) })),
        ...use(names.attention, (wa) => ({
          attention: matMul(w, wa),
          attentionBias: use(names.attentionBias, (ba) => add(rowTimes(b, wa), ba)),
        })),
      })),
    ),
  );
}

/** Returns `b w`, `[columns]`, for b `[n]` and w `[n, columns]`. */
function rowTimes(b: Tensor, w: Tensor): Tensor {
  const [rows, columns] = w.shape as [number, number];
  return reshape(matMul(reshape(b, [1, rows]), w), [columns]);
}

/** Gradients of the factors of the products with the features, and of the other terms that contain b. */
interface FoldedGradients {
  /** Of W in x W `[F, D]`, of W Wc `[F, G K]`, and of W Wa `[F, G]`. */
  readonly expansion: Tensor;
  readonly clusters: Tensor;
  readonly attention: Tensor;
  /** Of alpha `[N, G]`: its sum over frames is that of b Wa + ba. */
  readonly alpha: Tensor;
  /** Of b through the descriptor `[D]`. */
  readonly expansionBias: Tensor;
}

/** Returns the parameters' gradients, given those of the folded products. b Wc has none: the batch norm cancels a shift. Takes ownership of `d`. */
function unfoldGradients(modality: ModalitySizes, weights: WeightStore, d: FoldedGradients): readonly (readonly [string, Tensor])[] {
  const names = aggregatorNames(modality);
  const use = weights.use.bind(weights);
  const gradients = tidy(() => {
    const dAttentionBias = sum(d.alpha, [0]);
    const row = reshape(dAttentionBias, [1, dAttentionBias.shape[0] as number]);
    const expansionThroughClusters = use(names.clusters, (wc) => matMul(d.clusters, wc, { transposeB: true }));
    const expansionThroughAttention = use(names.attention, (wa) => matMul(d.attention, wa, { transposeB: true }));
    const biasThroughAttention = use(names.attention, (wa) => reshape(matMul(row, wa, { transposeB: true }), [modality.expanded]));
    const dClusters = use(names.expansion, (w) => matMul(w, d.clusters, { transposeA: true }));
    const dAttention = use(names.expansion, (w) =>
      use(names.expansionBias, (b) => add(matMul(w, d.attention, { transposeA: true }), matMul(reshape(b, [modality.expanded, 1]), row))),
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

/** Prepares NeXtVLAD with frozen weights, up to the descriptor with each cluster's part L2-normalized, without the batch norm that follows. */
export function freezeAggregator(
  modality: ModalitySizes,
  { groups }: Pick<ModelSizes, "groups">,
  weights: WeightStore,
  kernels: Kernels,
  precision: Parameters<Kernels["freezeAggregator"]>[1],
): ReturnType<Kernels["freezeAggregator"]> {
  const names = aggregatorNames(modality);
  return tidy(() => {
    const { clusters, clustersBias, attention, attentionBias } = foldExpansion(modality, weights);
    const { scale, shift } = frozenBatchNorm(batchNormNames(modality.clusterNorm), weights);
    return kernels.freezeAggregator(
      {
        groups,
        quantization: quantizationOf(modality, weights),
        clusters,
        clusterNorm: { scale, shift: add(multiply(clustersBias, scale), shift) },
        attention,
        attentionBias,
        expansion: weights.variable(names.expansion),
        expansionBias: weights.variable(names.expansionBias),
        centers: weights.variable(names.centers),
      },
      precision,
    );
  });
}
