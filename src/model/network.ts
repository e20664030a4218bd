import type { RaggedBatch } from "../data/video.js";
import { RaggedLayout } from "../kernels/ragged.js";
import { addBias, concat, slice, sum } from "../kernels/tensorflow-ops.js";
import { release, type Tensor, tidy } from "../runtime/runtime.js";
import { batchNorm, contextGating, dense, dropout, type TrainingContext } from "./layers.js";
import { aggregate } from "./nextvlad.js";
import { CLASSIFIER, CLASSIFIER_BIAS, HIDDEN, HIDDEN_NORM } from "./parameters.js";
import { type ModelSizes, modalitiesOf } from "./sizes.js";

/** The part of a batch that the network reads. */
export type NetworkInput = Pick<RaggedBatch, "frameCounts" | "rgb" | "audio">;

export interface DropoutOptions {
  readonly rate: number;
  readonly seed: readonly [number, number];
}

/**
 * The network in training, from a batch's bytes to logits `[videos, classes]`: the modalities' descriptors, dropout, hidden layer, context gating,
 * classifier. The caller owns the logits; `backward` takes ownership of their gradient.
 */
export function forwardForTraining(
  input: NetworkInput,
  sizes: ModelSizes,
  { rate, seed }: DropoutOptions,
  context: TrainingContext,
): { readonly logits: Tensor; readonly backward: (dLogits: Tensor) => void } {
  const layout = new RaggedLayout(input.frameCounts);
  const modalities = modalitiesOf(sizes);
  const aggregators = modalities.map((modality) =>
    aggregate(modality.name === "video" ? input.rgb : input.audio, layout, modality, sizes, context),
  );
  const descriptors = concat(
    aggregators.map(({ y }) => y),
    1,
  );
  if (aggregators.length > 1) release(...aggregators.map(({ y }) => y));
  const dropped = dropout(descriptors, rate, seed);
  const hidden = dense(dropped.y, HIDDEN, context);
  const normalized = batchNorm(hidden.y, HIDDEN_NORM, context);
  const gated = contextGating(normalized.y, context);
  const classified = dense(gated.y, CLASSIFIER, context);
  const logits = context.weights.use(CLASSIFIER_BIAS, (bias) => addBias(classified.y, bias));
  classified.y.dispose();

  const backward = (dLogits: Tensor): void => {
    const dBias = sum(dLogits, [0]);
    const dGated = classified.backward(dLogits);
    context.onGradient(CLASSIFIER_BIAS, dBias);
    const dHidden = normalized.backward(gated.backward(dGated));
    const dDescriptors = dropped.backward(hidden.backward(dHidden));
    const widths = modalities.map(({ groupSize }) => groupSize * sizes.clusters);
    const parts = splitColumns(dDescriptors, widths);
    for (const [i, aggregator] of aggregators.entries()) aggregator.backward(parts[i] as Tensor);
  };
  return { logits, backward };
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
