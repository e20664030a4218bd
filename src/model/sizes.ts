import type { Config } from "../config/schema.js";

export type Shape = readonly number[];

/** The name of a model, which selects its aggregator: see `AGGREGATORS` in network.ts. */
export type ModelName = Config["MODEL"]["name"];

/** The keys of config section MODEL that set the sizes. */
export type ModelSection = Pick<
  Config["MODEL"],
  | "name"
  | "num_classes"
  | "cluster_size"
  | "groups"
  | "expansion"
  | "hidden_size"
  | "gating_reduction"
  | "num_mixtures"
  | "video_feature_size"
  | "audio_feature_size"
>;

/** The dimensions of the network, with the paper's symbols. */
export interface ModelSizes {
  readonly model: ModelName;
  readonly classes: number;
  /** K. */
  readonly clusters: number;
  /** G. */
  readonly groups: number;
  /** lambda: the expansion maps the F features of a frame to D = lambda F values. */
  readonly expansion: number;
  readonly hidden: number;
  /** Width of context gating's bottleneck: floor(hidden / gating_reduction). */
  readonly bottleneck: number;
  /** M: experts per class of the classifier; 1 for a logistic one. */
  readonly mixtures: number;
  /** F of rgb; 0 if the model has no rgb. */
  readonly rgbFeatures: number;
  /** F of audio; 0 if the model has no audio. */
  readonly audioFeatures: number;
}

/** Returns the sizes for a config's MODEL section. */
export function modelSizes(section: ModelSection): ModelSizes {
  return {
    model: section.name,
    classes: section.num_classes,
    clusters: section.cluster_size,
    groups: section.groups,
    expansion: section.expansion,
    hidden: section.hidden_size,
    bottleneck: Math.floor(section.hidden_size / section.gating_reduction),
    mixtures: section.num_mixtures,
    rgbFeatures: section.video_feature_size,
    audioFeatures: section.audio_feature_size,
  };
}

/** The modalities, in the order of their parameters and descriptors. */
export const MODALITIES = ["rgb", "audio"] as const;
export type ModalityName = (typeof MODALITIES)[number];

/** The dimensions of one modality's aggregator. */
export interface ModalitySizes {
  readonly name: ModalityName;
  /** F. */
  readonly features: number;
  /** K. */
  readonly clusters: number;
  /** G. */
  readonly groups: number;
  /** D = lambda F. */
  readonly expanded: number;
  /** P = D / G. */
  readonly groupSize: number;
}

/** Returns the modalities of a model that have features. */
export function modalitiesOf(sizes: ModelSizes): readonly ModalitySizes[] {
  const { clusters, groups, expansion } = sizes;
  const features = { rgb: sizes.rgbFeatures, audio: sizes.audioFeatures };
  return MODALITIES.filter((name) => features[name] > 0).map((name) => {
    const expanded = expansion * features[name];
    return { name, features: features[name], clusters, groups, expanded, groupSize: expanded / groups };
  });
}
