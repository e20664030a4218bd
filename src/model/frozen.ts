import { RaggedLayout } from "../kernels/ragged.js";
import { concat, multiply } from "../kernels/tensorflow-ops.js";
import type { Affine, FrozenAggregator, FrozenDense, Kernels, Precision } from "../kernels/types.js";
import { constant } from "../runtime/constants.js";
import { type Tensor, tidy } from "../runtime/tensor.js";
import { toFloats } from "../runtime/transfer.js";
import type { FreezeOptions } from "./aggregator.js";
import { branchPrefixes, branchWeights } from "./branch.js";
import { freezeClassifier } from "./classifier.js";
import type { DropRates } from "./drop-rates.js";
import { frozenBatchNorm } from "./layers.js";
import { type FrozenGate, freezeGate, mixLogits } from "./mixture.js";
import { AGGREGATORS, type NetworkInput } from "./network.js";
import { GATING_EXPAND, GATING_NORM, GATING_REDUCE, HIDDEN, HIDDEN_NORM } from "./parameters.js";
import { type ModalityName, type ModelSizes, modalitiesOf } from "./sizes.js";
import type { WeightStore } from "./weights.js";

/**
 * The network for evaluation and inference: products of frozen weights are computed once, and each batch norm is a scale and a shift. Reads the large
 * matrices in place. Create a new one when the weights have changed, and dispose of it after use.
 */
export class FrozenNetwork {
  /** What it computes with. */
  readonly kernels: Kernels;
  readonly #sizes: ModelSizes;
  readonly #branches: readonly FrozenBranch[];
  /** Null if there is one branch. */
  readonly #gate: FrozenGate | null;

  /** Throws BAD_USAGE if the device does not support the precision. */
  constructor(sizes: ModelSizes, dropRates: DropRates, weights: WeightStore, kernels: Kernels, precision: Precision = "float32") {
    this.kernels = kernels;
    this.#sizes = sizes;
    const freeze = { kernels, precision, factor: 1 - dropRates.descriptor };
    this.#branches = branchPrefixes(sizes.model).map(
      (prefix) => new FrozenBranch(sizes, 1 - dropRates.hidden, { weights: branchWeights(weights, prefix), ...freeze }),
    );
    this.#gate = freezeGate(sizes, weights, kernels);
  }

  /** Returns the logits of a batch, `[videos, classes] float32`; the caller owns them. */
  logits(input: NetworkInput): Tensor {
    return tidy(() => {
      const layout = new RaggedLayout(input.frameCounts);
      const logits = this.#branches.map((branch) => branch.logits(input, layout));
      return this.#gate === null ? (logits[0] as Tensor) : mixLogits(this.#gate.shares(input, layout), logits);
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
    return tidy(() => this.kernels.sigmoid(this.logits(input)));
  }

  /** Frees the prepared tensors, not the weights. */
  dispose(): void {
    for (const branch of this.#branches) branch.dispose();
    this.#gate?.dispose();
  }
}

/** A branch of the network, from frames to logits. */
class FrozenBranch {
  readonly #kernels: Kernels;
  readonly #aggregators: readonly (readonly [ModalityName, FrozenAggregator])[];
  readonly #hidden: FrozenDense;
  readonly #gatingReduce: FrozenDense;
  readonly #gatingExpand: FrozenDense;
  readonly #classifier: FrozenDense;
  /** Factor of the classifier's input: dropout's 1 - rate. */
  readonly #hiddenFactor: number;

  constructor(sizes: ModelSizes, hiddenFactor: number, options: FreezeOptions) {
    const { weights, kernels } = options;
    const { freeze } = AGGREGATORS[sizes.model];
    this.#kernels = kernels;
    this.#aggregators = modalitiesOf(sizes).map((modality) => [modality.name, freeze(modality, options)]);
    const dense = (name: string, affine: Partial<Affine>): FrozenDense => kernels.freezeDense(weights.variable(name), affine);
    this.#hidden = dense(HIDDEN, frozenBatchNorm(HIDDEN_NORM, weights));
    this.#gatingReduce = dense(GATING_REDUCE, frozenBatchNorm(GATING_NORM, weights));
    this.#gatingExpand = dense(GATING_EXPAND, {});
    this.#classifier = freezeClassifier(sizes, weights, kernels);
    this.#hiddenFactor = hiddenFactor;
  }

  logits(input: NetworkInput, layout: RaggedLayout): Tensor {
    return tidy(() => {
      const descriptors = this.#aggregators.map(([name, aggregator]) => aggregator.aggregate(input[name], layout));
      const h = this.#hidden.apply(concat(descriptors, 1));
      const { y: gated } = this.#kernels.gate(h, this.#gatingExpand.apply(this.#gatingReduce.apply(h, "relu")));
      return this.#classifier.apply(this.#hiddenFactor === 1 ? gated : multiply(gated, constant(this.#hiddenFactor)));
    });
  }

  dispose(): void {
    for (const [, aggregator] of this.#aggregators) aggregator.dispose();
    for (const layer of [this.#hidden, this.#gatingReduce, this.#gatingExpand, this.#classifier]) layer.dispose();
  }
}
