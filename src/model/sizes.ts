export type Shape = readonly number[];

/** The numbers that shape the network (SPEC's letters: K, hidden, G, E, reduction, F, classes). */
export interface ModelSizes {
  readonly classes: number;
  /** K. */
  readonly clusters: number;
  /** G. */
  readonly groups: number;
  /** E: the projection makes expansion * features values of a frame. */
  readonly expansion: number;
  readonly hidden: number;
  /** Width of the gate's bottleneck: hidden / gating_reduction. */
  readonly gate: number;
  /** F of the rgb stream; 0 leaves the stream out. */
  readonly videoFeatures: number;
  /** F of the audio stream; 0 leaves the stream out. */
  readonly audioFeatures: number;
}

/** The keys of config section MODEL that the sizes come from. */
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

/** Reads the sizes off a config's MODEL section. */
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

/** One of the two aggregators: what its features are and how wide it is. */
export interface StreamSizes {
  readonly name: "video" | "audio";
  /** F. */
  readonly features: number;
  /** D = E F. */
  readonly expanded: number;
  /** P = D / G. */
  readonly groupSize: number;
  /** Which batch norm normalises the cluster logits, and which the descriptor. */
  readonly clusterNorm: number;
  readonly vladNorm: number;
}

/** The aggregators of a model: video before audio, and none for a stream without features. */
export function streamsOf(sizes: ModelSizes): readonly StreamSizes[] {
  const stream = (name: "video" | "audio", features: number, clusterNorm: number): StreamSizes => {
    const expanded = sizes.expansion * features;
    return { name, features, expanded, groupSize: expanded / sizes.groups, clusterNorm, vladNorm: clusterNorm + 1 };
  };
  return [stream("video", sizes.videoFeatures, 0), stream("audio", sizes.audioFeatures, 2)].filter(({ features }) => features > 0);
}

/** Length of the descriptor that the aggregators hand on: rows of hidden1_fc_weights. */
export function vladSize(sizes: ModelSizes): number {
  return streamsOf(sizes).reduce((length, { groupSize }) => length + groupSize * sizes.clusters, 0);
}
