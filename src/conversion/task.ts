import type { FloatType } from "../data/float-bytes.js";
import type { LabelledVideo } from "./label-table.js";
import type { ValueRange, ValueStatistics } from "./quantise.js";

/** Output format of a shard: YouTube-8M's TFRecord, or PaddleVideo's pickle. */
export type ShardFormat = "tfrecord" | "pkl";

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

/** User-supplied features of one modality: the path of their files and the range of their values. */
export interface OwnFeature {
  /** A path that contains `{id}`. */
  readonly pattern: string;
  readonly range: ValueRange;
}

/** A source of videos: user-supplied feature files and a label table. */
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
  /** Maximum of `nframes` in a pickle. */
  readonly maxFrames: number;
  /** Longer records are errors; 256 MiB by default. */
  readonly maxRecordBytes?: number | undefined;
}

/** The result of converting a shard. */
export interface ConversionResult {
  readonly videos: number;
  /** Bytes per frame of rgb and audio, 0 for a missing modality; null if there are no videos. */
  readonly sizes: readonly [number, number] | null;
  /** Statistics of the quantized values. */
  readonly statistics: readonly [ValueStatistics, ValueStatistics];
  /** Videos truncated to their shorter modality, which had one frame fewer. */
  readonly cutVideos: number;
  /** Videos with segment labels, which are not converted. */
  readonly segmentedVideos: number;
  /** Describes the first record that lacks one of the named feature lists, with the lists that it has; null if there is none. */
  readonly missingList: string | null;
  /** Number of videos whose ID, from MediaPipe's keys, an earlier video in the shard has too. */
  readonly repeatedIds: number;
}

/** Returns the path of a video's feature file. */
export function featurePath({ pattern }: OwnFeature, id: string): string {
  // A function, because `$` is special in a replacement string, and IDs may contain it.
  return pattern.replaceAll("{id}", () => id);
}
