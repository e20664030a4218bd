export type Shape = readonly number[];

/** The dimensions of the network, with the paper's symbols. */
export interface ModelSizes {
  readonly classes: number;
  /** K. */
  readonly clusters: number;
  /** G. */
  readonly groups: number;
  /** lambda: the expansion maps the F features of a frame to D = lambda F values. */
  readonly expansion: number;
  readonly hidden: number;
  /** Width of context gating's bottleneck: floor(hidden / gating_reduction). */
  readonly gate: number;
  /** F of rgb; 0 if the model has no rgb. */
  readonly videoFeatures: number;
  /** F of audio; 0 if the model has no audio. */
  readonly audioFeatures: number;
}

/** The keys of config section MODEL that set the sizes. */
export interface ModelSection {
  readonly num_classes: number;
  readonly cluster_size: number;
  readonly groups: number;
  readonly expansion: number;
  readonly hidden_size: number;
  readonly gating_reduction: number;
  readonly video_feature_size: number;
  readonly audio_feature_size: number;
}

/** Returns the sizes for a config's MODEL section. */
export function modelSizes(model: ModelSection): ModelSizes {
  return {
    classes: model.num_classes,
    clusters: model.cluster_size,
    groups: model.groups,
    expansion: model.expansion,
    hidden: model.hidden_size,
    gate: Math.floor(model.hidden_size / model.gating_reduction),
    videoFeatures: model.video_feature_size,
    audioFeatures: model.audio_feature_size,
  };
}

/** The sizes of one modality's aggregator. */
export interface ModalitySizes {
  readonly name: "video" | "audio";
  /** F. */
  readonly features: number;
  /** D = lambda F. */
  readonly expanded: number;
  /** P = D / G. */
  readonly groupSize: number;
  /** Indices of the batch norms of the cluster logits and of the descriptor. */
  readonly clusterNorm: number;
  readonly vladNorm: number;
}

/** Returns the modalities of a model that have features: video (rgb) before audio. */
export function modalitiesOf(sizes: ModelSizes): readonly ModalitySizes[] {
  const modality = (name: "video" | "audio", features: number, clusterNorm: number): ModalitySizes => {
    const expanded = sizes.expansion * features;
    return { name, features, expanded, groupSize: expanded / sizes.groups, clusterNorm, vladNorm: clusterNorm + 1 };
  };
  return [modality("video", sizes.videoFeatures, 0), modality("audio", sizes.audioFeatures, 2)].filter(({ features }) => features > 0);
}

/** Returns the total length of all modalities' descriptors, the number of rows of hidden1_fc_weights. */
export function vladSize(sizes: ModelSizes): number {
  return modalitiesOf(sizes).reduce((length, { groupSize }) => length + groupSize * sizes.clusters, 0);
}
