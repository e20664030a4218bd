import { deriveSeed } from "../base/random.js";
import type { RaggedBatch } from "../data/video.js";
import { runInTurn } from "../distributed/pending.js";
import { RaggedLayout } from "../kernels/ragged.js";
import { addAll, concat, slice } from "../kernels/tensorflow-ops.js";
import { release, type Tensor, tidy } from "../runtime/tensor.js";
import { aggregateBatch } from "./aggregate-batch.js";
import type { Aggregator } from "./aggregator.js";
import { branchContext, branchPrefixes } from "./branch.js";
import { classifierParameters, classify } from "./classifier.js";
import type { Division } from "./division.js";
import type { DropRates } from "./drop-rates.js";
import { batchNorm, contextGating, dense, dropout, type TrainingContext } from "./layers.js";
import { computeShares, gateParameters, mixLogits, mixLogitsGradient } from "./mixture.js";
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
export const AGGREGATORS: Readonly<Record<ModelName, Aggregator>> = { NEXTVLAD, NETVLAD, MIX_NEXTVLAD: NEXTVLAD };

/** Returns the total length of all modalities' descriptors, the number of rows of hidden1_fc_weights. */
export function descriptorsLength(sizes: ModelSizes): number {
  const { descriptorLength } = AGGREGATORS[sizes.model];
  return modalitiesOf(sizes).reduce((length, modality) => length + descriptorLength(modality), 0);
}

/** Returns every array of the model, in PaddleVideo v1.5.1's order of creation. Names, shapes, initial values and checkpoints follow this table. */
export function parameterTable(sizes: ModelSizes): readonly Parameter[] {
  const ofBranch = branchParameters(sizes);
  return [
    ...(sizes.rgbFeatures > 0 ? [eigenParam(sizes.rgbFeatures)] : []),
    ...gateParameters(sizes),
    ...branchPrefixes(sizes.model).flatMap((prefix) => ofBranch.map((parameter) => ({ ...parameter, name: prefix + parameter.name }))),
  ];
}

/** Returns a branch's arrays. */
function branchParameters(sizes: ModelSizes): readonly Parameter[] {
  const { hidden, bottleneck } = sizes;
  return [
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

/** The rate of each dropout, and the seed of its mask. */
export interface DropoutOptions {
  readonly rates: DropRates;
  readonly seeds: Readonly<Record<keyof DropRates, readonly [number, number]>>;
}

/** Returns the same rates with other masks for a branch. */
function branchDropouts({ rates, seeds }: DropoutOptions, branch: number): DropoutOptions {
  const ofBranch = ([first, second]: readonly [number, number]): [number, number] => [
    deriveSeed(first, "dropout", branch),
    deriveSeed(second, "dropout", branch),
  ];
  return { rates, seeds: { descriptor: ofBranch(seeds.descriptor), hidden: ofBranch(seeds.hidden) } };
}

/**
 * The network in training, from a batch's bytes to logits `[videos, classes]`: those of the model and, if it is a mixture, those of its branches after them. With
 * several ranks, rgb and audio are the frames of this rank's videos. The caller owns the logits; `backward` takes ownership of their gradients.
 */
export function forwardForTraining(
  input: NetworkInput,
  sizes: ModelSizes,
  dropouts: DropoutOptions,
  division: Division,
  given: TrainingContext,
): { readonly logits: readonly [Tensor, ...Tensor[]]; readonly backward: (dLogits: readonly Tensor[]) => void } {
  const { world, syncBatchNorm } = division;
  const context = syncBatchNorm || world.size === 1 ? given : { ...given, kernels: withShareNorm(given.kernels, world.size) };
  const layout = new RaggedLayout(input.frameCounts);
  const [first, ...others] = branchPrefixes(sizes.model);
  if (others.length === 0) {
    const { logits, backward } = forwardBranch(input, layout, sizes, dropouts, division, context);
    return { logits: [logits], backward: ([dLogits]) => backward(dLogits as Tensor) };
  }
  const shares = computeShares(input, layout, sizes, division, context);
  const branches = [first, ...others].map((prefix, branch) => {
    return forwardBranch(input, layout, sizes, branchDropouts(dropouts, branch), division, branchContext(context, prefix));
  });
  const ofBranches = branches.map(({ logits }) => logits);
  const kept = ofBranches.map((logits) => logits.clone());
  const backward = ([dMixed, ...dBranches]: readonly Tensor[]): void => {
    const through = mixLogitsGradient(dMixed as Tensor, shares.y, kept);
    release(dMixed as Tensor, shares.y, ...kept);
    shares.backward(through.shares);
    for (const [m, branch] of branches.entries()) {
      const terms = [dBranches[m], through.logits[m]] as [Tensor, Tensor];
      const dLogits = addAll(terms);
      release(...terms);
      branch.backward(dLogits);
    }
  };
  return { logits: [mixLogits(shares.y, ofBranches), ...ofBranches], backward };
}

/**
 * A branch of the network in training: the modalities' descriptors, dropout, hidden layer, context gating, dropout, classifier. Ownership is as in
 * `forwardForTraining`.
 */
function forwardBranch(
  input: NetworkInput,
  layout: RaggedLayout,
  sizes: ModelSizes,
  { rates, seeds }: DropoutOptions,
  division: Division,
  context: TrainingContext,
): { readonly logits: Tensor; readonly backward: (dLogits: Tensor) => void } {
  const aggregator = AGGREGATORS[sizes.model];
  const aggregated = runInTurn(
    modalitiesOf(sizes).map((modality) => aggregateBatch(aggregator, division, input[modality.name], layout, modality, context)),
  );
  const widths = aggregated.map(({ y }) => y.shape[1] as number);
  const descriptors = concat(
    aggregated.map(({ y }) => y),
    1,
  );
  if (aggregated.length > 1) release(...aggregated.map(({ y }) => y));
  const dropped = dropout(descriptors, rates.descriptor, seeds.descriptor, context.kernels);
  const rows = context.weights.dividedRows(HIDDEN);
  const hidden = rows === null ? dense(dropped.y, HIDDEN, context) : rows.dense(dropped.y, HIDDEN, context);
  const normalized = batchNorm(hidden.y, HIDDEN_NORM, context);
  const gated = contextGating(normalized.y, context);
  const kept = dropout(gated.y, rates.hidden, seeds.hidden, context.kernels);
  const classified = classify(kept.y, sizes, context);

  const backward = (dLogits: Tensor): void => {
    const dHidden = normalized.backward(gated.backward(kept.backward(classified.backward(dLogits))));
    const dDescriptors = dropped.backward(hidden.backward(dHidden));
    const dAggregated = splitColumns(dDescriptors, widths);
    runInTurn(aggregated.map(({ backward }, i) => backward(dAggregated[i] as Tensor)));
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
