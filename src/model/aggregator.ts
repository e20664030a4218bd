import type { RaggedLayout } from "../kernels/ragged.js";
import type { FrozenAggregator, Kernels, Precision } from "../kernels/types.js";
import type { Tensor } from "../runtime/tensor.js";
import type { Layer, TrainingContext } from "./layers.js";
import type { OnnxGraph, PaddedLayout } from "./onnx-graph.js";
import type { Parameter } from "./parameters.js";
import type { ModalityName, ModalitySizes, Shape } from "./sizes.js";
import type { Weights } from "./weights.js";

/**
 * Aggregates the frames of one modality of each video into a descriptor of fixed length: the part of the network that MODEL.name selects. All other layers
 * are the same for all models.
 */
export interface Aggregator {
  /** Returns the aggregator's arrays, in order of creation. */
  readonly parameters: (modality: ModalitySizes) => readonly Parameter[];
  /** Returns the length of a descriptor. */
  readonly descriptorLength: (modality: ModalitySizes) => number;
  /** Infers a modality's sizes from the shapes of its arrays. `shapeOf` returns the dimensions of an array that should have `rank` of them. */
  readonly inferSizes: (modality: ModalityName, shapeOf: (name: string, rank: number) => Shape) => InferredSizes;
  /**
   * Maps a modality's bytes `[N, F] uint8` to descriptors, and propagates their gradient to the parameters: of a batch, or of some videos of a batch whose
   * cluster norm has the statistics of `batchFrames` frames.
   */
  readonly aggregate: (
    bytes: Uint8Array,
    layout: RaggedLayout,
    modality: ModalitySizes,
    context: TrainingContext,
    batchFrames: number,
  ) => Aggregation;
  /** Normalizes the descriptors `[videos, descriptorLength]` of a whole batch. */
  readonly normalize: (descriptors: Tensor, modality: ModalitySizes, context: TrainingContext) => Layer;
  /** Prepares the aggregator for evaluation and inference. Throws BAD_USAGE if it does not support the precision on this device. */
  readonly freeze: (modality: ModalitySizes, options: FreezeOptions) => FrozenAggregator;
  /** Adds the frozen aggregator to a graph; returns the name of its descriptors `[videos, descriptorLength]`. */
  readonly addToGraph: (graph: OnnxGraph, modality: ModalitySizes, layout: PaddedLayout) => string;
}

/**
 * The forward and backward pass of an aggregator over frames, as a generator that pauses where it needs values of the whole batch:
 * 1. It yields the moments of its cluster logits `[parts, G K, 3]`, and borrows those of the batch.
 * 2. It yields the descriptors `[videos, descriptorLength]`, and takes ownership of their gradient.
 * 3. It yields the gradients of the cluster norm's scale and shift through its frames, which it continues to own, and borrows those through all frames of the
 *    batch. The features, being data, have no gradient.
 */
export type Aggregation = Generator<readonly Tensor[], void, readonly Tensor[]>;

/** Runs a pass up to its first pause; returns what it yields. */
export function startPass(pass: Aggregation): readonly Tensor[] {
  return pass.next().value ?? [];
}

/** Runs a pass up to its next pause, or its end; returns what it yields. */
export function continuePass(pass: Aggregation, reply: readonly Tensor[]): readonly Tensor[] {
  return pass.next(reply).value ?? [];
}

export interface FreezeOptions {
  readonly weights: Weights;
  readonly kernels: Kernels;
  readonly precision: Precision;
  /** Factor of the descriptor: dropout's 1 - rate. */
  readonly factor: number;
}

/** The paper's symbols: F, lambda, G and K. */
export interface InferredSizes {
  readonly features: number;
  readonly expansion: number;
  readonly groups: number;
  readonly clusters: number;
}
