import { NextvladError } from "../base/errors.js";
import type { FrameList } from "../formats/frame-list.js";
import { type ContextFeature, parseSequenceExample, type SequenceExample } from "../formats/sequence-example.js";
import type { TfRecord } from "../formats/tfrecord.js";
import type { Video } from "./video.js";

/** What a video must look like to be taken. */
export interface VideoShape {
  /** Frames past this many are cut. */
  readonly maxFrames: number;
  /** The feature lists that hold the frames: rgb's name, then audio's. */
  readonly featureNames: readonly [string, string];
  /** Bytes a frame: of rgb, then of audio. */
  readonly featureSizes: readonly [number, number];
  /** Labels are below this. */
  readonly numClasses: number;
  /** "required": each video must have them, in range. "optional": they may be absent, and any class is let through. */
  readonly labels: "required" | "optional";
}

/** What an error about a video says of its place. */
interface VideoPlace {
  readonly file: string;
  readonly record: number;
  readonly byteOffset: number;
  readonly video?: string;
}

const FRAME_LEVEL = "download YouTube-8M's frame-level shards: 2/frame/train, 2/frame/validate and 2/frame/test";

/**
 * Reads a record of YouTube-8M's frame-level format: context `id` (or `video_id`) and `labels`, one feature list for rgb and one for audio.
 * Throws BAD_FORMAT (no SequenceExample), BAD_VIDEO (no id, no frames, frames missing or of the wrong size or number), BAD_LABELS.
 */
export function parseVideo(record: TfRecord, shape: VideoShape): Video {
  const recordPlace = { file: record.file, record: record.record, byteOffset: record.byteOffset };
  const example = parseSequenceExample(record.data, recordPlace, shape.featureNames, shape.maxFrames);
  refuseVideoLevel(example, recordPlace);
  const id = readId(example, recordPlace);
  const place = { ...recordPlace, video: id };
  const [rgbName, audioName] = shape.featureNames;
  const rgb = frameListOf(example, rgbName, place);
  const audio = frameListOf(example, audioName, place);
  if (rgb.frames !== audio.frames) {
    throw new NextvladError("BAD_VIDEO", `${rgbName} and ${audioName} have different numbers of frames`, {
      ...place,
      expected: `${rgb.frames} frames of ${audioName}, as of ${rgbName}`,
      found: audio.frames,
      remedy: "write both features for every frame",
    });
  }
  if (rgb.frames === 0) {
    throw new NextvladError("BAD_VIDEO", "the video has no frames", { ...place, remedy: "leave such videos out of the shard" });
  }
  checkFrameBytes(rgb, rgbName, shape.featureSizes[0], "MODEL.video_feature_size", place);
  checkFrameBytes(audio, audioName, shape.featureSizes[1], "MODEL.audio_feature_size", place);
  const labels = readLabels(example, shape, place);
  return { id, frames: Math.min(rgb.frames, shape.maxFrames), rgb: rgb.data, audio: audio.data, labels };
}

function refuseVideoLevel({ context, listNames }: SequenceExample, place: VideoPlace): void {
  if (listNames.length > 0 || !(context.has("mean_rgb") || context.has("mean_audio"))) return;
  throw new NextvladError("BAD_VIDEO", "this is a video-level Example; this tool needs frame-level SequenceExamples", {
    ...place,
    expected: "feature lists",
    found: listOf([...context.keys()]),
    remedy: FRAME_LEVEL,
  });
}

function readId({ context }: SequenceExample, place: VideoPlace): string {
  const feature = context.get("id") ?? context.get("video_id");
  const [bytes] = feature?.kind === "bytes" ? feature.values : [];
  if (bytes !== undefined) return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("utf8");
  throw new NextvladError("BAD_VIDEO", "the video has no id", {
    ...place,
    expected: "a context feature id or video_id of bytes",
    found: listOf([...context.keys()]),
    remedy: FRAME_LEVEL,
  });
}

function frameListOf({ frameLists, listNames }: SequenceExample, name: string, place: VideoPlace): FrameList {
  const list = frameLists.get(name);
  if (list !== undefined) return list;
  throw new NextvladError("BAD_VIDEO", `the video has no feature list named ${name}`, {
    ...place,
    found: listOf(listNames),
    remedy: "set MODEL.feature_names to the names that the shard has",
  });
}

function checkFrameBytes(list: FrameList, name: string, expected: number, key: string, place: VideoPlace): void {
  if (list.frameBytes === expected) return;
  throw new NextvladError("BAD_VIDEO", `${name} has another feature size than the model`, {
    ...place,
    expected: `${expected} bytes a frame`,
    found: list.frameBytes,
    remedy: `set ${key} to ${list.frameBytes}, or use shards made for this model`,
  });
}

function readLabels({ context }: SequenceExample, shape: VideoShape, place: VideoPlace): Int32Array {
  const feature: ContextFeature = context.get("labels") ?? { kind: "none" };
  if (feature.kind === "none") {
    if (shape.labels === "optional") return new Int32Array(0);
    throw new NextvladError("BAD_LABELS", "the video has no labels, and training and evaluation need them", {
      ...place,
      remedy: "use train or validate shards here; YouTube-8M's test shards have no labels and serve for infer only",
    });
  }
  if (feature.kind !== "int64") {
    throw new NextvladError("BAD_LABELS", "the labels are not integers", { ...place, expected: "int64", found: feature.kind });
  }
  const limit = shape.labels === "required" ? shape.numClasses : 2 ** 31;
  const wrong = feature.values.find((label) => label < 0 || label >= limit);
  if (wrong !== undefined) {
    throw new NextvladError("BAD_LABELS", "a label is not one of the model's classes", {
      ...place,
      expected: `0 to ${limit - 1}`,
      found: wrong,
      remedy: wrong < 0 ? "write class indices from 0" : "set MODEL.num_classes to the number of classes in the shards",
    });
  }
  return Int32Array.from(new Set(feature.values)).sort();
}

function listOf(names: readonly string[]): string {
  if (names.length === 0) return "none";
  const shown = names.slice(0, 8).map((name) => JSON.stringify(name.slice(0, 40)));
  return names.length > shown.length ? `${shown.join(", ")} and ${names.length - shown.length} more` : shown.join(", ");
}
