import { RaggedLayout } from "../kernels/ragged.js";
import { addBias, concat, sigmoid } from "../kernels/tensorflow-ops.js";
import type { Affine, FrozenAggregator, Kernels, Precision } from "../kernels/types.js";
import { keep, release, type Tensor, tidy } from "../runtime/runtime.js";
import { toFloats } from "../runtime/transfer.js";
import { applyAffine, frozenBatchNorm, frozenContextGating } from "./layers.js";
import { AGGREGATORS, type NetworkInput } from "./network.js";
import { CLASSIFIER, CLASSIFIER_BIAS, GATING_NORM, HIDDEN, HIDDEN_NORM } from "./parameters.js";
import { type ModalityName, type ModelSizes, modalitiesOf } from "./sizes.js";
import type { WeightStore } from "./weights.js";

/**
 * The network for evaluation and inference: products of frozen weights are computed once, and each batch norm is a scale and a shift. Reads the large
 * matrices in place. Create a new one when the weights have changed, and dispose of it after use.
 */
export class FrozenNetwork {
  readonly #sizes: ModelSizes;
  readonly #weights: WeightStore;
  readonly #kernels: Kernels;
  readonly #aggregators: readonly (readonly [ModalityName, FrozenAggregator])[];
  readonly #hiddenNorm: Affine;
  readonly #gatingNorm: Affine;

  /** Throws BAD_USAGE if the device does not support the precision. */
  constructor(sizes: ModelSizes, dropRate: number, weights: WeightStore, kernels: Kernels, precision: Precision = "float32") {
    this.#sizes = sizes;
    this.#weights = weights;
    this.#kernels = kernels;
    const { freeze } = AGGREGATORS[sizes.model];
    const options = { weights, kernels, precision, factor: 1 - dropRate };
    this.#aggregators = modalitiesOf(sizes).map((modality) => [modality.name, freeze(modality, options)]);
    this.#hiddenNorm = frozenBatchNorm(HIDDEN_NORM, weights);
    this.#gatingNorm = frozenBatchNorm(GATING_NORM, weights);
    for (const tensor of this.#tensors()) keep(tensor);
  }

  #tensors(): Tensor[] {
    return [this.#hiddenNorm, this.#gatingNorm].flatMap(({ scale, shift }) => [scale, shift]);
  }

  /** Returns the logits of a batch, `[videos, classes] float32`; the caller owns them. */
  logits(input: NetworkInput): Tensor {
    const [weights, kernels] = [this.#weights, this.#kernels];
    return tidy(() => {
      const layout = new RaggedLayout(input.frameCounts);
      const descriptors = this.#aggregators.map(([name, aggregator]) => aggregator.aggregate(input[name], layout));
      const projected = weights.use(HIDDEN, (w) => kernels.matMul(concat(descriptors, 1), w));
      const h = applyAffine(projected, this.#hiddenNorm);
      const gated = frozenContextGating(h, this.#gatingNorm, weights, kernels);
      const classified = weights.use(CLASSIFIER, (w) => kernels.matMul(gated, w));
      return weights.use(CLASSIFIER_BIAS, (bias) => addBias(classified, bias));
    });
  }

  /** Returns whether the logits of two short videos are finite: diverged weights may be finite but overflow in a product. */
  hasFiniteLogits(): boolean {
    const bytes = (features: number): Uint8Array => Uint8Array.from({ length: 3 * features }, (_, i) => (i * 89 + 17) % 256);
    const { rgbFeatures, audioFeatures } = this.#sizes;
    const input = { frameCounts: Int32Array.of(1, 2), rgb: bytes(rgbFeatures), audio: bytes(audioFeatures) };
    return tidy(() => toFloats(this.logits(input))).every(Number.isFinite);
  }

  /** Returns the probabilities of a batch, `[videos, classes] float32`; the caller owns them. */
  probabilities(input: NetworkInput): Tensor {
    return tidy(() => sigmoid(this.logits(input)));
  }

  /** Frees the prepared tensors, not the weights. */
  dispose(): void {
    for (const [, aggregator] of this.#aggregators) aggregator.dispose();
    release(...this.#tensors());
  }
}
