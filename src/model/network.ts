import type { RaggedBatch } from "../data/video.js";
import { RaggedLayout } from "../kernels/ragged.js";
import { concat, slice } from "../kernels/tensorflow-ops.js";
import { release, type Tensor, tidy } from "../runtime/runtime.js";
import { aggregateBatch } from "./aggregate-batch.js";
import type { Aggregator } from "./aggregator.js";
import { classifierParameters, classify } from "./classifier.js";
import type { Division } from "./division.js";
import { batchNorm, contextGating, dense, dropout, type TrainingContext } from "./layers.js";
import { NETVLAD } from "./netvlad.js";
import { NEXTVLAD } from "./nextvlad.js";
import {
  batchNormParameters,
  eigenParam,
  GATING_EXPAND,
  GATING_NORM,
  GATING_REDUCE,
  HIDDEN,
  HIDDEN_NORM,
  matrix,
  type Parameter,
} from "./parameters.js";
import { withShareNorm } from "./share-norm.js";
import { type ModelName, type ModelSizes, modalitiesOf } from "./sizes.js";

/** The aggregator of each model, by MODEL.name. */
export const AGGREGATORS: Readonly<Record<ModelName, Aggregator>> = { NEXTVLAD, NETVLAD };

/** Returns the total length of all modalities' descriptors, the number of rows of hidden1_fc_weights. */
export function descriptorsLength(sizes: ModelSizes): number {
  const { descriptorLength } = AGGREGATORS[sizes.model];
  return modalitiesOf(sizes).reduce((length, modality) => length + descriptorLength(modality), 0);
}

/** Returns every array of the model, in PaddleVideo v1.5.1's order of creation. Names, shapes, initial values and checkpoints follow this table. */
export function parameterTable(sizes: ModelSizes): readonly Parameter[] {
  const { hidden, bottleneck } = sizes;
  return [
    ...(sizes.rgbFeatures > 0 ? [eigenParam(sizes.rgbFeatures)] : []),
    ...modalitiesOf(sizes).flatMap(AGGREGATORS[sizes.model].parameters),
    matrix(HIDDEN, [descriptorsLength(sizes), hidden], { divided: true }),
    ...batchNormParameters(HIDDEN_NORM, hidden),
    matrix(GATING_REDUCE, [hidden, bottleneck]),
    ...batchNormParameters(GATING_NORM, bottleneck),
    matrix(GATING_EXPAND, [bottleneck, hidden]),
    ...classifierParameters(sizes),
  ];
}

/** The part of a batch that the network reads. */
export type NetworkInput = Pick<RaggedBatch, "frameCounts" | "rgb" | "audio">;

export interface DropoutOptions {
  readonly rate: number;
  readonly seed: readonly [number, number];
}

/**
 * The network in training, from a batch's bytes to logits `[videos, classes]`: the modalities' descriptors, dropout, hidden layer, context gating,
 * classifier. With several ranks, rgb and audio are the frames of this rank's videos. The caller owns the logits; `backward` takes ownership of their gradient.
 */
export function forwardForTraining(
  input: NetworkInput,
  sizes: ModelSizes,
  { rate, seed }: DropoutOptions,
  division: Division,
  given: TrainingContext,
): { readonly logits: Tensor; readonly backward: (dLogits: Tensor) => void } {
  const { world, syncBatchNorm } = division;
  const context = syncBatchNorm || world.size === 1 ? given : { ...given, kernels: withShareNorm(given.kernels, world.size) };
  const layout = new RaggedLayout(input.frameCounts);
  const aggregator = AGGREGATORS[sizes.model];
  const aggregated = modalitiesOf(sizes).map((modality) =>
    aggregateBatch(aggregator, division, input[modality.name], layout, modality, context),
  );
  const widths = aggregated.map(({ y }) => y.shape[1] as number);
  const descriptors = concat(
    aggregated.map(({ y }) => y),
    1,
  );
  if (aggregated.length > 1) release(...aggregated.map(({ y }) => y));
  const dropped = dropout(descriptors, rate, seed, context.kernels);
  const rows = context.weights.dividedRows(HIDDEN);
  const hidden = rows === null ? dense(dropped.y, HIDDEN, context) : rows.dense(dropped.y, HIDDEN, context);
  const normalized = batchNorm(hidden.y, HIDDEN_NORM, context);
  const gated = contextGating(normalized.y, context);
  const classified = classify(gated.y, sizes, context);

  const backward = (dLogits: Tensor): void => {
    const dHidden = normalized.backward(gated.backward(classified.backward(dLogits)));
    const dDescriptors = dropped.backward(hidden.backward(dHidden));
    const dAggregated = splitColumns(dDescriptors, widths);
    for (const [i, { backward }] of aggregated.entries()) backward(dAggregated[i] as Tensor);
  };
  return { logits: classified.y, backward };
}

/** Cuts `[rows, sum of widths]` into one tensor per width. Takes ownership of `x`. */
function splitColumns(x: Tensor, widths: readonly number[]): Tensor[] {
  if (widths.length === 1) return [x];
  const rows = x.shape[0] as number;
  const parts = tidy(() => {
    let begin = 0;
    return widths.map((width) => {
      const part = slice(x, [0, begin], [rows, width]);
      begin += width;
      return part;
    });
  });
  x.dispose();
  return parts;
}
