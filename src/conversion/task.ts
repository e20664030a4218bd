import type { FloatType } from "../data/float-bytes.js";
import type { LabelledVideo } from "./label-table.js";
import type { ValueRange, ValueStatistics } from "./quantise.js";

/** What a shard is converted to: YouTube-8M's TFRecord, or PaddleVideo's pickle. */
export type ShardFormat = "tfrecord" | "pkl";

/** What a frame of bytes in a TFRecord holds: a byte per feature, or little-endian floats. */
export type FeatureDtype = "uint8" | FloatType;

/** Where videos come from: a shard of either format, or a SequenceExample alone in its file, as MediaPipe writes. */
export interface ShardSource {
  readonly kind: "shard";
  readonly path: string;
  /** Names of the feature lists in a TFRecord shard. */
  readonly featureNames: readonly [string, string];
  /** Undefined: uint8, and an error if the first record's frames look like floats. */
  readonly dtype: FeatureDtype | undefined;
  /** What float values become bytes by. */
  readonly ranges: readonly [ValueRange, ValueRange];
}

/** One feature of people's own: where its files are, and what its values become. */
export interface OwnFeature {
  /** A path with `{id}` in it. */
  readonly pattern: string;
  readonly range: ValueRange;
}

/** Where videos come from: feature files of one's own, and a table of labels. */
export interface OwnSource {
  readonly kind: "own";
  readonly table: string;
  readonly videos: readonly LabelledVideo[];
  readonly features: readonly [OwnFeature | null, OwnFeature | null];
}

/** One shard to be made. */
export interface ConversionTask {
  readonly source: ShardSource | OwnSource;
  readonly format: ShardFormat;
  /** The shard's path. */
  readonly output: string;
  /** `nframes` of a pickle at most. */
  readonly maxFrames: number;
  /** Longer records are errors; by default 256 MiB. */
  readonly maxRecordBytes?: number | undefined;
}

/** What making it came to. */
export interface ConversionResult {
  readonly videos: number;
  /** Bytes a frame of rgb and audio, 0 for one that is not there; null where there is no video. */
  readonly sizes: readonly [number, number] | null;
  /** Of the values that were quantised. */
  readonly statistics: readonly [ValueStatistics, ValueStatistics];
  /** Videos cut to their shorter feature, which had one frame fewer. */
  readonly cutVideos: number;
  /** Videos with segment labels, which are not converted. */
  readonly segmentedVideos: number;
  /** What the records lack of the named feature lists, and what they have instead; null if nothing. */
  readonly missingList: string | null;
  /** Videos whose ID, of MediaPipe's keys, a video before in the shard has too. */
  readonly repeatedIds: number;
}

/** The path of a video's file. */
export function featurePath({ pattern }: OwnFeature, id: string): string {
  // A function, because `$` has a meaning in a replacement string, and IDs may contain it.
  return pattern.replaceAll("{id}", () => id);
}
