import { basename, extname } from "node:path";
import { NextvladError } from "../base/errors.js";
import { showText } from "../base/shown-value.js";
import { FLOAT_BYTES, type FloatType, floatTypeOf } from "../data/float-bytes.js";
import { SEGMENT_LABELS } from "../data/segments.js";
import { checkVideo, makeVideo, type Video, type VideoPlace, type VideoShape } from "../data/video.js";
import { assertFrameLevel, labelsOf, listOf, readId } from "../data/video-parser.js";
import type { TfRecord } from "../formats/containers/tfrecord.js";
import type { FloatFrames, FrameList } from "../formats/protobuf/feature-list.js";
import { decodeText } from "../formats/protobuf/reader.js";
import { parseSequenceExample, type SequenceExample } from "../formats/protobuf/sequence-example.js";
import { decodeNumpy } from "../formats/tensors/numpy.js";
import { assertFinite, mergeStatistics, NO_VALUES, quantize, type ValueRange, type ValueStatistics } from "./features.js";

/** The content of byte frames in a TFRecord: one byte per feature, or little-endian floats. */
export type FeatureDtype = "uint8" | FloatType;

/** A source of videos: a shard of either format, or a single SequenceExample in its own file, as MediaPipe writes. */
export interface ShardSource {
  readonly kind: "shard";
  readonly path: string;
  /** Names of the feature lists in a TFRecord shard. */
  readonly featureNames: readonly [string, string];
  /** Undefined: uint8, and an error if the frames of the first record look like floats. */
  readonly dtype: FeatureDtype | undefined;
  /** Ranges for the quantization of float values. */
  readonly ranges: readonly [ValueRange, ValueRange];
}

/** A conversion accepts videos of any length, feature size and number of classes. */
export const ANY_VIDEO: Omit<VideoShape, "featureNames"> = {
  maxFrames: Number.MAX_SAFE_INTEGER,
  featureSizes: [null, null],
  numClasses: 2 ** 31,
  labels: "in range",
};

const NO_BYTES = new Uint8Array(0);

/** The context feature in which MediaPipe's media sequences store class indices. */
const MEDIA_LABELS = "clip/label/index";

/** Converts the records of a TFRecord shard, or a single SequenceExample in its own file, to videos. Float features are quantized. */
export class RecordConverter {
  /** Statistics of the values that were quantized. */
  readonly statistics: [ValueStatistics, ValueStatistics] = [NO_VALUES, NO_VALUES];
  /** Number of videos truncated to their shorter modality. */
  cutVideos = 0;
  /** Number of videos with segment labels, which are not converted. */
  segmentedVideos = 0;
  /** Describes the first record that lacks one of the two feature lists. */
  missingList: string | null = null;
  /** Number of videos whose ID, from MediaPipe's keys, an earlier video has too. */
  repeatedIds = 0;
  readonly #mediaIds = new Set<string>();
  readonly #source: ShardSource;

  constructor(source: ShardSource) {
    this.#source = source;
  }

  /**
   * Converts a record to a video. `isSingle`: the file is this record alone. Throws what `parseVideo` throws, and BAD_VIDEO for NaN or Inf, or byte frames that
   * look like floats.
   */
  convert(record: TfRecord, isSingle = false): Video {
    const { featureNames } = this.#source;
    const recordPlace = { file: record.file, record: record.record, byteOffset: record.byteOffset };
    // Quantized after the ID is known, because errors name it.
    const floatLists = new Map<string, FloatFrames>();
    const onFloats = (frames: FloatFrames, name: string): Uint8Array => {
      floatLists.set(name, frames);
      return NO_BYTES;
    };
    const example = parseSequenceExample(record.data, recordPlace, {
      listNames: featureNames,
      maxFrames: ANY_VIDEO.maxFrames,
      quantize: onFloats,
    });
    assertFrameLevel(example, recordPlace);
    if (example.context.has(SEGMENT_LABELS)) this.segmentedVideos++;
    const mediaId = mediaIdOf(example, isSingle ? this.#source.path : null);
    if (mediaId !== undefined) {
      if (this.#mediaIds.has(mediaId)) this.repeatedIds++;
      this.#mediaIds.add(mediaId);
    }
    const id = mediaId ?? readId(example, recordPlace);
    const place = { ...recordPlace, video: id };
    this.#checkNames(example, place);
    const lists = featureNames.map((name) => {
      const list = example.frameLists.get(name);
      const floats = floatLists.get(name);
      if (floats !== undefined) {
        const { frames, size, values } = floats;
        return { frames, frameBytes: size, data: this.#quantize(values, size, name, place) };
      }
      return list && this.#readBytes(list, name, place);
    });
    const features = floatLists.size === 2 ? this.#cutToShorter(lists) : lists;
    const found = {
      id,
      features: [features[0], features[1]] as const,
      labels: labelsOf(example, place) ?? labelsOf(example, place, MEDIA_LABELS),
    };
    return makeVideo(checkVideo(found, { ...ANY_VIDEO, featureNames }, place));
  }

  #quantize(values: Float32Array, size: number, name: string, place: VideoPlace): Uint8Array {
    assertFinite(values, size, name, place);
    const i = name === this.#source.featureNames[0] ? 0 : 1;
    const { bytes, statistics } = quantize(values, this.#source.ranges[i] as ValueRange);
    this.statistics[i] = mergeStatistics(this.statistics[i], statistics);
    return bytes;
  }

  /** Reads frames of bytes: one byte per feature, or floats that are quantized. */
  #readBytes(list: FrameList, name: string, place: VideoPlace): FrameList {
    const { dtype } = this.#source;
    if (dtype === "uint8") return list;
    if (dtype === undefined) {
      const type = place.record === 0 ? floatTypeOf(list.data) : null;
      if (type === null) return list;
      const remedy = `add --feature-dtype ${type} to quantize them, or --feature-dtype uint8 if each byte is a feature`;
      throw new NextvladError("BAD_VIDEO", `the frames of ${showText(name)} look like ${type} values`, {
        ...place,
        expected: "one byte per feature",
        found: `${list.frameBytes} bytes per frame`,
        remedy,
      });
    }
    if (list.frameBytes % FLOAT_BYTES[dtype] !== 0) {
      const details = { ...place, expected: `a multiple of ${FLOAT_BYTES[dtype]} bytes per frame`, found: list.frameBytes };
      throw new NextvladError("BAD_VIDEO", `the frames of ${showText(name)} are not ${dtype} values`, {
        ...details,
        remedy: "check --feature-dtype",
      });
    }
    const size = list.frameBytes / FLOAT_BYTES[dtype];
    return {
      frames: list.frames,
      frameBytes: size,
      data: this.#quantize(decodeNumpy(list.data, dtype === "float16" ? "f2" : "f4"), size, name, place),
    };
  }

  /** Truncates both modalities to the shorter one: MediaPipe's audio, in windows of 0.96 s, can end one frame before its rgb. */
  #cutToShorter(lists: readonly (FrameList | undefined)[]): readonly (FrameList | undefined)[] {
    const counts = lists.map((list) => list?.frames ?? 0);
    const frames = Math.min(...counts);
    if (frames === 0 || Math.max(...counts) - frames !== 1) return lists;
    this.cutVideos++;
    return lists.map((list) => list && { ...list, frames, data: list.data.subarray(0, frames * list.frameBytes) });
  }

  /** Throws BAD_VIDEO if a record has other feature lists but neither of the two; if it lacks one of the two, sets `missingList`. */
  #checkNames({ frameLists, listNames }: SequenceExample, place: VideoPlace): void {
    const { featureNames } = this.#source;
    const missing = featureNames.filter((name) => !frameLists.has(name));
    const others = listNames.filter((name) => !featureNames.includes(name));
    if (missing.length === 0 || others.length === 0) return;
    if (missing.length === 1)
      this.missingList ??= `no feature list named ${showText(String(missing[0]))}, but ${listOf(others)}; name the two to convert with --feature-names`;
    else {
      throw new NextvladError(
        "BAD_VIDEO",
        `the video has no feature list named ${featureNames.map((name) => showText(name)).join(" or ")}`,
        {
          ...place,
          found: listOf(others),
          remedy: `name the lists of rgb and audio, such as --feature-names ${suggestNames(others)}; one of them may be missing`,
        },
      );
    }
  }
}

/** Guesses from their names which list is rgb and which is audio. */
function suggestNames(names: readonly string[]): string {
  const features = names.filter((name) => !/time/i.test(name));
  const audio = features.find((name) => /audio|sound|speech|vggish/i.test(name));
  const rgb = features.find((name) => name !== audio);
  return `${showText(rgb ?? "rgb")},${showText(audio ?? "audio")}`;
}

/**
 * Returns the ID of a record that MediaPipe wrote (mediapipe/util/sequence/media_sequence.h), which has no `id`: its media ID, or the name of its media file,
 * or the name of the SequenceExample's own file (`file`, null in a TFRecord). Undefined for a record with an `id`, and for one that has none of these.
 */
function mediaIdOf({ context }: SequenceExample, file: string | null): string | undefined {
  if (context.has("id") || context.has("video_id")) return undefined;
  const textOf = (key: string): string | undefined => {
    const feature = context.get(key);
    const bytes = feature?.kind === "bytes" ? feature.values[0] : undefined;
    return bytes === undefined || bytes.length === 0 ? undefined : decodeText(bytes);
  };
  const mediaId = textOf("clip/media_id");
  if (mediaId !== undefined) return mediaId;
  const mediaFile = textOf("clip/data_path") ?? (file?.endsWith(".pb") ? file : undefined);
  return mediaFile === undefined ? undefined : basename(mediaFile, extname(mediaFile));
}
