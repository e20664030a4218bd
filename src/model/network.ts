import type { RaggedBatch } from "../data/video.js";
import { addBias, concat, slice, sum } from "../tensorflow/kernels.js";
import { type Tensor, tidy } from "../tensorflow/runtime.js";
import { aggregateStream } from "./aggregator.js";
import { normaliseBatch } from "./batch-norm.js";
import { release, type TrainingContext } from "./block.js";
import { dense } from "./dense.js";
import { dropOut } from "./dropout.js";
import { featuresOf } from "./features.js";
import { applyGate } from "./gate.js";
import { batchNormNames } from "./parameters.js";
import { RaggedLayout } from "./ragged.js";
import { type ModelSizes, streamsOf } from "./sizes.js";

export const HIDDEN = "hidden1_fc_weights";
export const CLASSIFIER = "logits_clf_weights";
export const CLASSIFIER_BIAS = "logits_clf_bias";
export const HIDDEN_NORM = batchNormNames(4);

/** The part of a batch that the network reads. */
export type NetworkInput = Pick<RaggedBatch, "frameCounts" | "rgb" | "audio">;

export interface DropoutOptions {
  readonly rate: number;
  readonly seed: readonly [number, number];
}

/** The network in training: `logits` `[videos, classes]`, and from their gradient everything behind them. Both tensors change hands. */
export function forwardForTraining(
  input: NetworkInput,
  sizes: ModelSizes,
  dropout: DropoutOptions,
  context: TrainingContext,
): { readonly logits: Tensor; readonly backward: (dLogits: Tensor) => void } {
  const layout = new RaggedLayout(input.frameCounts);
  const streams = streamsOf(sizes);
  const aggregators = streams.map((stream) => {
    const x = featuresOf(stream.name === "video" ? input.rgb : input.audio, layout.frames, stream, context.weights);
    return aggregateStream(x, layout, stream, sizes, context);
  });
  const descriptors = concat(
    aggregators.map(({ y }) => y),
    1,
  );
  if (aggregators.length > 1) release(...aggregators.map(({ y }) => y));
  const dropped = dropOut(descriptors, dropout.rate, dropout.seed);
  const hidden = dense(dropped.y, HIDDEN, context);
  const normalised = normaliseBatch(hidden.y, HIDDEN_NORM, context);
  const gated = applyGate(normalised.y, context);
  const classified = dense(gated.y, CLASSIFIER, context);
  const logits = context.weights.use(CLASSIFIER_BIAS, (bias) => addBias(classified.y, bias));
  classified.y.dispose();

  const backward = (dLogits: Tensor): void => {
    const dBias = sum(dLogits, [0]);
    const dGated = classified.backward(dLogits);
    context.takeGradient(CLASSIFIER_BIAS, dBias);
    const dHidden = normalised.backward(gated.backward(dGated));
    const dDescriptors = dropped.backward(hidden.backward(dHidden));
    const widths = streams.map(({ groupSize }) => groupSize * sizes.clusters);
    const parts = splitColumns(dDescriptors, widths);
    for (const [i, aggregator] of aggregators.entries()) aggregator.backward(parts[i] as Tensor);
  };
  return { logits, backward };
}

/** Cuts `[rows, sum of widths]` (taken over) into one tensor a width. */
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
