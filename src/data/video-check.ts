import { type ErrorDetails, NextvladError } from "../base/errors.js";
import { showText } from "../base/shown-value.js";
import { FLOAT_BYTES, FLOAT_TYPES, floatTypeOf, quantiseRemedy } from "./float-bytes.js";

/** What a video must look like to be taken. */
export interface VideoShape {
  /** Frames past this many are cut. */
  readonly maxFrames: number;
  /** The feature lists that hold the frames: rgb's name, then audio's. */
  readonly featureNames: readonly [string, string];
  /** Bytes a frame: of rgb, then of audio. 0 leaves a feature out, whether the shard has it or not; null takes it as it is, if it is there. */
  readonly featureSizes: readonly [number | null, number | null];
  /** Labels are below this. */
  readonly numClasses: number;
  /**
   * "at least one": each video must have a label, in range. "required": the list may be empty. "in range": the list may be absent.
   * "optional": that, and any class is accepted.
   */
  readonly labels: "at least one" | "required" | "in range" | "optional";
  /** Longer records are errors; by default 256 MiB. */
  readonly maxRecordBytes?: number | undefined;
}

/** What is to be known of one feature of a video, wherever its bytes are. */
export interface FeatureSize {
  /** `[frames or fewer, frameBytes]`, if they are at hand: an error tells by them what they may be. */
  readonly data?: Uint8Array;
  /** All that there are, also past `maxFrames`. */
  readonly frames: number;
  readonly frameBytes: number;
}

/** Rgb and audio, as far as they are there. */
export type FeaturePair<F> = readonly [rgb: F | undefined, audio: F | undefined];

/** A video as a shard has it. */
export interface FoundVideo<F extends FeatureSize> {
  readonly id: string;
  readonly features: FeaturePair<F>;
  /** Undefined where the shard has none. */
  readonly labels: readonly number[] | undefined;
}

/** What the model takes of it. */
export interface CheckedVideo<F extends FeatureSize> {
  readonly id: string;
  /** Frames that are kept: 1..maxFrames. */
  readonly frames: number;
  /** Those that the model has. */
  readonly features: FeaturePair<F>;
  /** Rising, each once. */
  readonly labels: Int32Array;
}

/** What an error about a video says of its place. */
export type VideoPlace = Pick<ErrorDetails, "file" | "record" | "byteOffset" | "video">;

const SIZE_KEYS = ["MODEL.video_feature_size", "MODEL.audio_feature_size"] as const;

/** The video that was found, if it is what `shape` asks for. Throws BAD_VIDEO (no frames, frames of the wrong size or number), BAD_LABELS. */
export function checkVideo<F extends FeatureSize>(found: FoundVideo<F>, shape: VideoShape, place: VideoPlace): CheckedVideo<F> {
  const rgb = takeFeature(found.features[0], shape.featureSizes[0]);
  const audio = takeFeature(found.features[1], shape.featureSizes[1]);
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
    const remedy = "leave such videos out of the shard";
    throw new NextvladError("BAD_VIDEO", "the video has no frames", { ...place, remedy, damaged: "record" });
  }
  checkFrameBytes(rgb, 0, shape, place);
  checkFrameBytes(audio, 1, shape, place);
  const labels = checkLabels(found.labels, shape, place);
  return { id: found.id, frames: Math.min(frames, shape.maxFrames), features: [rgb, audio], labels };
}

/** A list without frames is as good as none, where there may be none. */
function takeFeature<F extends FeatureSize>(feature: F | undefined, size: number | null): F | undefined {
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
  const details = { ...place, expected: `${expected} bytes a frame`, found };
  if (type !== undefined && seen === type) {
    const what = `the frames of ${showText(name)} are ${type} values, ${FLOAT_BYTES[type]} bytes per feature; the model takes one byte per feature`;
    throw new NextvladError("BAD_VIDEO", what, { ...details, remedy: quantiseRemedy(type) });
  }
  const isMaybe = type !== undefined && seen === "unknown";
  throw new NextvladError("BAD_VIDEO", `${showText(name)} has another feature size than the model`, {
    ...details,
    remedy: `${isMaybe ? `if these are ${type} values, ${quantiseRemedy(type)}; if each byte is a feature, ` : ""}set ${key} to ${found}, or use shards made for this model`,
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
      remedy: "use train or validate shards here; YouTube-8M's test shards have no labels and serve for infer only",
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
 * Whether labels are one 0 or 1 per class: three or more values of 0 and 1 must repeat one, which a list of class indices does not.
 * With two classes, repeated 0s and 1s can be class indices.
 */
function isMultiHot(labels: readonly number[], numClasses: number): boolean {
  return numClasses > 2 && labels.length > 2 && labels.every((label) => label === 0 || label === 1);
}
