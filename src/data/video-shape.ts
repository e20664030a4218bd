import type { VideoShape } from "./video-check.js";

/** The keys of config section MODEL that define the shape of a video. */
export interface VideoSection {
  readonly max_frames: number;
  readonly feature_names: readonly [string, string];
  readonly video_feature_size: number;
  readonly audio_feature_size: number;
  readonly num_classes: number;
  readonly max_record_bytes: number;
}

/** Returns the shape of videos that a config's MODEL section defines. */
export function videoShape(model: VideoSection, labels: VideoShape["labels"]): VideoShape {
  return {
    maxFrames: model.max_frames,
    featureNames: model.feature_names,
    featureSizes: [model.video_feature_size, model.audio_feature_size],
    numClasses: model.num_classes,
    labels,
    maxRecordBytes: model.max_record_bytes,
  };
}
