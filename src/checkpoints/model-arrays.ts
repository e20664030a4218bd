import { NextvladError } from "../base/errors.js";
import { listFirst } from "../base/problem-list.js";
import { MODEL_NAMES } from "../config/value-types.js";
import { branchPrefixes } from "../model/branch.js";
import { inferClassifier } from "../model/classifier.js";
import { AGGREGATORS, parameterTable } from "../model/network.js";
import { MODALITIES, type ModelName, type ModelSection, modalitiesOf } from "../model/sizes.js";
import type { WeightSource } from "./weight-source.js";

/** The names do not depend on the sizes, as long as both modalities are present. */
const SIZES = { classes: 1, clusters: 1, groups: 1, expansion: 1, hidden: 1, bottleneck: 1, mixtures: 1, rgbFeatures: 1, audioFeatures: 1 };
const PARAMETERS: ReadonlySet<string> = new Set(
  MODEL_NAMES.flatMap((model) => [1, 2].flatMap((mixtures) => parameterTable({ ...SIZES, model, mixtures }).map(({ name }) => name))),
);
const OF_ADAM = /_(moment[12]|beta[12]_pow_acc)_0$/;

/** The step counter of the learning rate schedule (fluid/layers/learning_rate_scheduler.py). */
export const STEP_COUNTER = "@LR_DECAY_COUNTER@";

/** Returns the parameter that one of Adam's arrays belongs to; null if the name is not one of Adam's arrays. */
export function adamParameter(name: string): string | null {
  const parameter = name.replace(OF_ADAM, "");
  return parameter !== name && PARAMETERS.has(parameter) ? parameter : null;
}

/** Returns whether weights and optimizer state may have an array of this name. */
export function isArrayName(name: string): boolean {
  return PARAMETERS.has(name) || adamParameter(name) !== null || name === STEP_COUNTER;
}

/** Returns the names of the arrays of a model's aggregator, by modality, in all its branches. */
function aggregatorArrays(model: ModelName) {
  return modalitiesOf({ model, ...SIZES }).map((modality) => ({
    modality: modality.name,
    names: branchPrefixes(model).flatMap((prefix) => AGGREGATORS[model].parameters(modality).map(({ name }) => prefix + name)),
  }));
}

/**
 * Returns the model whose aggregator has arrays of these names, or null. If several models share all names that are present, it is the model
 * that lacks the fewest.
 */
export function modelOf(names: Iterable<string>): ModelName | null {
  const present = new Set(names);
  let best: { readonly model: ModelName; readonly found: number; readonly missing: number } | null = null;
  for (const model of MODEL_NAMES) {
    const all = aggregatorArrays(model).flatMap((arrays) => arrays.names);
    const found = all.filter((name) => present.has(name)).length;
    const missing = all.length - found;
    if (found === 0) continue;
    if (best === null || found > best.found || (found === best.found && missing < best.missing)) best = { model, found, missing };
  }
  return best?.model ?? null;
}

const REMEDY = "pass NeXtVLAD weights with Paddle's array names, or their config with --config";

/**
 * Infers a model's name and sizes from the names and shapes of its arrays. A modality without arrays has 0 features.
 * Throws BAD_WEIGHTS with every array that is missing or has an unexpected shape, and if the sizes of the two modalities disagree.
 */
export function inferModel(source: WeightSource): ModelSection {
  const problems: string[] = [];
  const model = modelOf(source.entries.keys());
  // All branches have the same sizes.
  const [prefix] = branchPrefixes(model ?? MODEL_NAMES[0]);
  const shapeOf = (ofBranch: string, rank: number): readonly number[] => {
    const name = prefix + ofBranch;
    const shape = source.entries.get(name)?.shape;
    if (shape?.length === rank && shape.every((size) => size > 0)) return shape;
    problems.push(shape === undefined ? `${name} is missing` : `${name} is [${shape.join(", ")}], expected ${rank} dimensions`);
    return [];
  };
  const [rgb, audio] = MODALITIES.map((modality) => {
    const arrays = model === null ? [] : aggregatorArrays(model).filter((each) => each.modality === modality);
    const isPresent = arrays.some(({ names }) => source.entries.has(names[0] as string));
    return model === null || !isPresent ? null : AGGREGATORS[model].inferSizes(modality, shapeOf);
  });
  if (!rgb && !audio) problems.push(`found no arrays of an aggregator (${MODEL_NAMES.join(", ")})`);
  const sizes = rgb ?? audio ?? { features: 0, expansion: 1, groups: 1, clusters: 1 };
  const [, hidden = 1] = shapeOf("hidden1_fc_weights", 2);
  const [, bottleneck = 1] = shapeOf("gating_fc1_weights", 2);
  const { classes, mixtures } = inferClassifier((name) => source.entries.has(prefix + name), shapeOf);
  if (rgb && audio) {
    for (const size of ["expansion", "groups", "clusters"] as const) {
      if (rgb[size] !== audio[size]) problems.push(`${size} is ${rgb[size]} for rgb and ${audio[size]} for audio`);
    }
  }
  for (const [what, value] of [
    ["expansion", sizes.expansion],
    ["gating_reduction", hidden / bottleneck],
    ["num_mixtures", mixtures],
  ] as const) {
    if (!Number.isInteger(value)) problems.push(`${what} is ${value}, expected an integer`);
  }
  if (problems.length > 0 || model === null) {
    const what = `cannot infer the model's sizes from the shapes of these weights: ${listFirst(problems, { separator: "; " })}`;
    throw new NextvladError("BAD_WEIGHTS", what, { file: source.path, remedy: REMEDY });
  }
  return {
    name: model,
    num_classes: classes,
    cluster_size: sizes.clusters,
    groups: sizes.groups,
    expansion: sizes.expansion,
    hidden_size: hidden,
    gating_reduction: hidden / bottleneck,
    num_mixtures: mixtures,
    video_feature_size: rgb?.features ?? 0,
    audio_feature_size: audio?.features ?? 0,
  };
}
