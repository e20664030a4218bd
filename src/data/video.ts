import { type ErrorDetails, NextvladError } from "../base/errors.js";
import { showText } from "../base/shown-value.js";
import { FLOAT_BYTES, FLOAT_TYPES, floatTypeOf, quantizeRemedy } from "./float-bytes.js";

/** Which segments of a video are clips: "rated", those that raters saw, with their labels; "all", consecutive ones without labels. */
export type SegmentMode = "rated" | "all";

/** A rated segment. */
export interface Segment {
  /** First frame, which is the start time in seconds. */
  readonly start: number;
  /** Classes that were rated, ascending and unique. The labels of all other classes are unknown. */
  readonly rated: Int32Array;
  /** The rated classes that the segment shows. */
  readonly labels: Int32Array;
}

/** A video's frame-level features, as bytes (YouTube-8M's quantization: see model/dequantize.ts). */
export interface Video {
  /** The ID's bytes as text, without loss: see `decodeBytes`. */
  readonly id: string;
  /** Number of frames, 1..max_frames. */
  readonly frames: number;
  /** `[frames, video_feature_size] uint8`, frame by frame; empty if rgb is unused or missing. */
  readonly rgb: Uint8Array;
  /** `[frames, audio_feature_size] uint8`; empty if audio is unused or missing. */
  readonly audio: Uint8Array;
  /** Class indices, ascending and unique; empty if the shard has none. */
  readonly labels: Int32Array;
  /** Of a video that is read for its rated segments: see `clipsOf`. */
  readonly segments?: readonly Segment[];
  /** Of a rated segment: the classes that were rated, ascending. Whether it shows the other ones is unknown. */
  readonly rated?: Int32Array;
}

/** A video read from a shard. */
export interface ShardVideo {
  readonly video: Video;
  /** Bytes of the file on disk up to the end of this video; an estimate if the file is compressed or a pickle. */
  readonly filePosition: number;
}

/** Features of several videos, concatenated without padding frames. If several ranks share the work, rgb and audio are of this rank's videos only: see `gatherBatch`. */
export interface RaggedBatch {
  readonly ids: readonly string[];
  /** `[videos] int32`. */
  readonly frameCounts: Int32Array;
  /** `[sum of frameCounts, video_feature_size] uint8`. */
  readonly rgb: Uint8Array;
  /** `[sum of frameCounts, audio_feature_size] uint8`. */
  readonly audio: Uint8Array;
  /** Class indices of each video, ascending and unique. */
  readonly labels: readonly Int32Array[];
  /** Weights of these labels in mixed videos: see `mixVideos`. Undefined if all are 1. */
  readonly labelWeights?: readonly Float32Array[] | undefined;
  /** Of rated segments: the classes of each that were rated, ascending. Undefined if all classes of all videos count. */
  readonly rated?: readonly Int32Array[] | undefined;
}

/** Requirements for the videos of a shard. */
export interface VideoShape {
  /** Maximum number of frames; further frames are cut. */
  readonly maxFrames: number;
  /** Names of the feature lists that hold the frames: rgb, then audio. */
  readonly featureNames: readonly [string, string];
  /** Bytes per frame: of rgb, then of audio. 0 ignores a modality even if the shard has it; null accepts any size, and a missing modality. */
  readonly featureSizes: readonly [number | null, number | null];
  /** Number of classes. Labels must be below it, unless `labels` is "optional". */
  readonly numClasses: number;
  /**
   * "at least one": each video must have a label, and all must be in range. "required": the list may be empty. "in range": the list may be missing. "optional":
   * the list may be missing, and any class is accepted.
   */
  readonly labels: "at least one" | "required" | "in range" | "optional";
  /** Maximum record size in bytes; defaults to 256 MiB. Longer records are errors. */
  readonly maxRecordBytes?: number | undefined;
  /** The segments that are clips: see `clipsOf`. By default, the whole videos are. */
  readonly segments?: SegmentMode | undefined;
}

/** Accepts any video. The names do not matter for a pickle. */
export const ANY_SHAPE: VideoShape = {
  maxFrames: Number.MAX_SAFE_INTEGER,
  featureNames: ["rgb", "audio"],
  featureSizes: [null, null],
  numClasses: Number.MAX_SAFE_INTEGER,
  labels: "optional",
};

/** The keys of config section MODEL that define the shape of a video. */
export interface VideoSection {
  readonly max_frames: number;
  readonly feature_names: readonly [string, string];
  readonly video_feature_size: number;
  readonly audio_feature_size: number;
  readonly num_classes: number;
  readonly max_record_bytes: number;
  readonly segments: boolean;
}

/**
 * Returns the shape of videos that a config's MODEL section defines. With `segments`, a reader that requires labels reads rated segments, and one to which
 * they are optional reads all segments; the labels of the videos are not used.
 */
export function videoShape(model: VideoSection, labels: VideoShape["labels"]): VideoShape {
  const mode = labels === "required" ? "rated" : labels === "optional" ? "all" : undefined;
  const segments = model.segments ? mode : undefined;
  return {
    maxFrames: model.max_frames,
    featureNames: model.feature_names,
    featureSizes: [model.video_feature_size, model.audio_feature_size],
    numClasses: model.num_classes,
    labels: segments === undefined ? labels : "optional",
    maxRecordBytes: model.max_record_bytes,
    segments,
  };
}

/** One modality of a video, in memory that nothing else writes to. */
export interface FeatureBytes {
  /** Number of frames of the video; `data` may hold fewer, but at least the frames that are kept. */
  readonly frames: number;
  readonly frameBytes: number;
  /** `[frames or fewer, frameBytes] uint8`. */
  readonly data: Uint8Array;
}

/** Combines a checked video and its bytes. */
export function makeVideo({ id, frames, features: [rgb, audio], labels }: CheckedVideo<FeatureBytes>): Video {
  return { id, frames, rgb: rgb?.data ?? new Uint8Array(0), audio: audio?.data ?? new Uint8Array(0), labels };
}

/** Size of one modality of a video, wherever its bytes are. */
export interface FeatureSize {
  /** `[frames or fewer, frameBytes]`, if in memory; used to guess the type of float values for an error. */
  readonly data?: Uint8Array;
  /** Total number of frames, including those past `maxFrames`. */
  readonly frames: number;
  readonly frameBytes: number;
}

/** Rgb and audio; undefined if missing. */
export type FeaturePair<F> = readonly [rgb: F | undefined, audio: F | undefined];

/** A video as stored in a shard, unchecked. */
export interface FoundVideo<F extends FeatureSize> {
  readonly id: string;
  readonly features: FeaturePair<F>;
  /** Undefined if the shard has none. */
  readonly labels: readonly number[] | undefined;
}

/** A checked video, reduced to what the model uses. */
export interface CheckedVideo<F extends FeatureSize> {
  readonly id: string;
  /** Number of frames that are kept: 1..maxFrames. */
  readonly frames: number;
  /** Undefined for a modality that is ignored or missing. */
  readonly features: FeaturePair<F>;
  /** Ascending and unique. */
  readonly labels: Int32Array;
}

/** Location of a video, for errors. */
export type VideoPlace = Pick<ErrorDetails, "file" | "record" | "byteOffset" | "video">;

const SIZE_KEYS = ["MODEL.video_feature_size", "MODEL.audio_feature_size"] as const;

/**
 * Checks a video against `shape` and returns what the model uses of it. Throws BAD_VIDEO if it has no frames, or frames of the wrong size or number, and
 * BAD_LABELS if its labels are missing or invalid.
 */
export function checkVideo<F extends FeatureSize>(found: FoundVideo<F>, shape: VideoShape, place: VideoPlace): CheckedVideo<F> {
  const rgb = usedFeature(found.features[0], shape.featureSizes[0]);
  const audio = usedFeature(found.features[1], shape.featureSizes[1]);
  const [rgbName, audioName] = shape.featureNames;
  if (rgb !== undefined && audio !== undefined && rgb.frames !== audio.frames) {
    throw new NextvladError("BAD_VIDEO", `${showText(rgbName)} and ${showText(audioName)} have different numbers of frames`, {
      ...place,
      expected: `${rgb.frames} frames of ${showText(audioName)}, as of ${showText(rgbName)}`,
      found: audio.frames,
      remedy: "write both features for every frame",
      damaged: "record",
    });
  }
  const frames = (rgb ?? audio)?.frames ?? 0;
  if (frames === 0) {
    const remedy = "remove such videos from the shard";
    throw new NextvladError("BAD_VIDEO", "the video has no frames", { ...place, remedy, damaged: "record" });
  }
  checkFrameBytes(rgb, 0, shape, place);
  checkFrameBytes(audio, 1, shape, place);
  const labels = checkLabels(found.labels, shape, place);
  return { id: found.id, frames: Math.min(frames, shape.maxFrames), features: [rgb, audio], labels };
}

/** Returns the feature, or undefined if it is ignored, or is optional and has no frames. */
function usedFeature<F extends FeatureSize>(feature: F | undefined, size: number | null): F | undefined {
  return size === 0 || (size === null && feature?.frames === 0) ? undefined : feature;
}

function checkFrameBytes(feature: FeatureSize | undefined, i: 0 | 1, shape: VideoShape, place: VideoPlace): void {
  const expected = shape.featureSizes[i];
  const key = SIZE_KEYS[i];
  if (feature === undefined || expected === null || feature.frameBytes === expected) return;
  const found = feature.frameBytes;
  const name = shape.featureNames[i];
  const type = FLOAT_TYPES.find((float) => found === expected * FLOAT_BYTES[float]);
  const seen = feature.data === undefined || feature.data.every((byte) => byte === 0) ? "unknown" : floatTypeOf(feature.data);
  const details = { ...place, expected: `${expected} bytes per frame`, found };
  if (type !== undefined && seen === type) {
    const what = `the frames of ${showText(name)} are ${type} values, ${FLOAT_BYTES[type]} bytes per feature; the model takes one byte per feature`;
    throw new NextvladError("BAD_VIDEO", what, { ...details, remedy: quantizeRemedy(type) });
  }
  const isMaybe = type !== undefined && seen === "unknown";
  throw new NextvladError("BAD_VIDEO", `the feature size of ${showText(name)} does not match the model`, {
    ...details,
    remedy: `${isMaybe ? `if these are ${type} values, ${quantizeRemedy(type)}; if each byte is a feature, ` : ""}set ${key} to ${found}, or use shards made for this model`,
  });
}

function checkLabels(labels: readonly number[] | undefined, shape: VideoShape, place: VideoPlace): Int32Array {
  if (labels?.length === 0 && shape.labels === "at least one") {
    const remedy = "write at least one label for each video";
    throw new NextvladError("BAD_LABELS", "the list of labels is empty", { ...place, remedy });
  }
  if (labels === undefined) {
    if (shape.labels === "in range" || shape.labels === "optional") return new Int32Array(0);
    throw new NextvladError("BAD_LABELS", "the video has no labels, and training and evaluation need them", {
      ...place,
      remedy: "use train or validate shards here; YouTube-8M's test shards have no labels: use them with infer only",
    });
  }
  const limit = shape.labels === "optional" ? 2 ** 31 : shape.numClasses;
  if (shape.labels !== "optional" && isMultiHot(labels, shape.numClasses)) {
    throw new NextvladError("BAD_LABELS", "the labels are a 0/1 vector (multi-hot), not class indices", {
      ...place,
      expected: "the indices of the video's classes",
      found: `${labels.length} values, each 0 or 1`,
      remedy: "write the indices of the ones, as numpy.flatnonzero(labels) gives them",
    });
  }
  const wrong = labels.find((label) => label < 0 || label >= limit);
  if (wrong !== undefined) {
    throw new NextvladError("BAD_LABELS", "a label is not one of the model's classes", {
      ...place,
      expected: `0 to ${limit - 1}`,
      found: wrong,
      remedy: wrong < 0 ? "write class indices from 0" : "set MODEL.num_classes to the number of classes in the shards",
    });
  }
  const isRising = labels.every((label, i) => i === 0 || label > (labels[i - 1] as number));
  return isRising ? Int32Array.from(labels) : Int32Array.from(new Set(labels)).sort();
}

/**
 * Whether labels are a 0/1 vector (multi-hot): three or more values of 0 and 1 must repeat one, which a list of class indices does not. With two classes,
 * repeated 0s and 1s can be class indices.
 */
function isMultiHot(labels: readonly number[], numClasses: number): boolean {
  return numClasses > 2 && labels.length > 2 && labels.every((label) => label === 0 || label === 1);
}
