import { NextvladError } from "../base/errors.js";
import { listFirst } from "../base/problem-list.js";
import type { ModelSection } from "../model/sizes.js";
import type { WeightSource } from "./weight-source.js";

/** The keys of config section MODEL that can be inferred from the shapes of a model's arrays. */
export type InferredModel = ModelSection;

/**
 * Infers a model's sizes from the shapes of its arrays. A modality without arrays has 0 features.
 * Throws BAD_WEIGHTS with every array that is missing or has an unexpected shape, and if the sizes of the two modalities disagree.
 */
export function inferModel(source: WeightSource): InferredModel {
  const problems: string[] = [];
  const sides = (name: string, count: number): readonly number[] => {
    const shape = source.entries.get(name)?.shape;
    if (shape?.length === count && shape.every((side) => side > 0)) return shape;
    problems.push(shape === undefined ? `${name} is missing` : `${name} is [${shape.join(", ")}], which should have ${count} sides`);
    return [];
  };
  const streams = (["video", "audio"] as const).map((name) => {
    if (!source.entries.has(`${name}_fc_expansion_w`)) return null;
    const [features = 1, expanded = 1] = sides(`${name}_fc_expansion_w`, 2);
    const [, groups = 1] = sides(`${name}_fc_group_attention_w`, 2);
    const [clusters = 1] = sides(`${name}_cluster_weights2`, 2);
    return { features, expansion: expanded / features, groups, clusters };
  });
  const [video, audio] = streams;
  const stream = video ?? audio;
  if (stream === null || stream === undefined) problems.push("video_fc_expansion_w and audio_fc_expansion_w are missing");
  const [, hidden = 1] = sides("hidden1_fc_weights", 2);
  const [, gate = 1] = sides("gating_fc1_weights", 2);
  const [classes = 1] = sides("logits_clf_bias", 1);
  if (video && audio) {
    for (const size of ["expansion", "groups", "clusters"] as const) {
      if (video[size] !== audio[size]) problems.push(`${size} is ${video[size]} for video and ${audio[size]} for audio`);
    }
  }
  for (const [what, value] of [
    ["expansion", stream?.expansion ?? 1],
    ["gating_reduction", hidden / gate],
  ] as const) {
    if (!Number.isInteger(value)) problems.push(`${what} comes to ${value}, which is not whole`);
  }
  if (problems.length > 0) {
    throw new NextvladError(
      "BAD_WEIGHTS",
      `the model's sizes cannot be read off these weights: ${listFirst(problems, { separator: "; " })}`,
      {
        file: source.path,
        remedy:
          "name weights of NeXtVLAD in PaddleVideo's form, or the config that they were trained with, with --config, to have every misfit listed",
      },
    );
  }
  return {
    num_classes: classes,
    cluster_size: stream?.clusters ?? 1,
    groups: stream?.groups ?? 1,
    expansion: stream?.expansion ?? 1,
    hidden_size: hidden,
    gating_reduction: hidden / gate,
    video_feature_size: video?.features ?? 0,
    audio_feature_size: audio?.features ?? 0,
  };
}
