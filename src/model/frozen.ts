import { RaggedLayout } from "../kernels/ragged.js";
import { add, addBias, concat, multiply, sigmoid } from "../kernels/tensorflow-ops.js";
import type { Affine, FrozenAggregator, Kernels, Precision } from "../kernels/types.js";
import { constant } from "../runtime/constants.js";
import { keep, release, type Tensor, tidy } from "../runtime/runtime.js";
import { toFloats } from "../runtime/transfer.js";
import { frozenBatchNorm, frozenContextGating } from "./layers.js";
import type { NetworkInput } from "./network.js";
import { freezeAggregator } from "./nextvlad.js";
import { batchNormNames, CLASSIFIER, CLASSIFIER_BIAS, GATING_NORM, HIDDEN, HIDDEN_NORM } from "./parameters.js";
import { type ModalitySizes, type ModelSizes, modalitiesOf } from "./sizes.js";
import type { WeightStore } from "./weights.js";

interface FrozenModality {
  readonly name: ModalitySizes["name"];
  readonly aggregator: FrozenAggregator;
  /** The descriptor's batch norm `[P K]`, including dropout's factor 1 - rate. */
  readonly norm: Affine;
}

/**
 * The network for evaluation and inference: products of frozen weights are computed once, and each batch norm is a scale and a shift. Reads the large
 * matrices in place. Create a new one when the weights have changed, and dispose of it after use.
 */
export class FrozenNetwork {
  readonly #sizes: ModelSizes;
  readonly #weights: WeightStore;
  readonly #kernels: Kernels;
  readonly #modalities: readonly FrozenModality[];
  readonly #hiddenNorm: Affine;
  readonly #gatingNorm: Affine;

  /** Throws BAD_USAGE if the device has no such precision. */
  constructor(sizes: ModelSizes, dropRate: number, weights: WeightStore, kernels: Kernels, precision: Precision = "float32") {
    this.#sizes = sizes;
    this.#weights = weights;
    this.#kernels = kernels;
    this.#modalities = modalitiesOf(sizes).map((modality) => ({
      name: modality.name,
      aggregator: freezeAggregator(modality, sizes, weights, kernels, precision),
      norm: freezeDescriptorNorm(modality, dropRate, weights),
    }));
    this.#hiddenNorm = frozenBatchNorm(HIDDEN_NORM, weights);
    this.#gatingNorm = frozenBatchNorm(GATING_NORM, weights);
    for (const tensor of this.#tensors()) keep(tensor);
  }

  #tensors(): Tensor[] {
    const norms = [...this.#modalities.map(({ norm }) => norm), this.#hiddenNorm, this.#gatingNorm];
    return norms.flatMap(({ scale, shift }) => [scale, shift]);
  }

  /** Returns the logits of a batch, `[videos, classes]`; the caller owns them. */
  logits(input: NetworkInput): Tensor {
    const [weights, kernels] = [this.#weights, this.#kernels];
    return tidy(() => {
      const layout = new RaggedLayout(input.frameCounts);
      const descriptors = this.#modalities.map(({ name, aggregator, norm }) =>
        tidy(() => applyAffine(aggregator.describe(name === "video" ? input.rgb : input.audio, layout), norm)),
      );
      const projected = weights.use(HIDDEN, (w) => kernels.dense(concat(descriptors, 1), w));
      const h = applyAffine(projected, this.#hiddenNorm);
      const gated = frozenContextGating(h, this.#gatingNorm, weights, kernels);
      const classified = weights.use(CLASSIFIER, (w) => kernels.dense(gated, w));
      return weights.use(CLASSIFIER_BIAS, (bias) => addBias(classified, bias));
    });
  }

  /** Returns whether the logits of two short videos are finite: diverged weights may be finite but overflow in a product. */
  hasFiniteLogits(): boolean {
    const bytes = (features: number): Uint8Array => Uint8Array.from({ length: 3 * features }, (_, i) => (i * 89 + 17) % 256);
    const { videoFeatures, audioFeatures } = this.#sizes;
    const input = { frameCounts: Int32Array.of(1, 2), rgb: bytes(videoFeatures), audio: bytes(audioFeatures) };
    return tidy(() => toFloats(this.logits(input))).every(Number.isFinite);
  }

  /** Returns the probabilities of a batch, `[videos, classes]`; the caller owns them. */
  probabilities(input: NetworkInput): Tensor {
    return tidy(() => sigmoid(this.logits(input)));
  }

  /** Frees the prepared tensors, not the weights. */
  dispose(): void {
    for (const { aggregator } of this.#modalities) aggregator.dispose();
    release(...this.#tensors());
  }
}

const applyAffine = (x: Tensor, { scale, shift }: Affine): Tensor => add(multiply(x, scale), shift);

function freezeDescriptorNorm(modality: ModalitySizes, dropRate: number, weights: WeightStore): Affine {
  return tidy(() => {
    const { scale, shift } = frozenBatchNorm(batchNormNames(modality.vladNorm), weights);
    const kept = constant(1 - dropRate);
    return { scale: multiply(scale, kept), shift: multiply(shift, kept) };
  });
}
