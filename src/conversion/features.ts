import { NextvladError } from "../base/errors.js";
import { showText } from "../base/shown-value.js";
import type { VideoPlace } from "../data/video.js";

/** The features of a converted video, in the order of all pairs in this directory. */
export const FEATURE_NAMES = ["rgb", "audio"] as const;

/** Bytes per frame of rgb and audio, 0 for a missing modality. */
export type FeatureSizes = readonly [rgb: number, audio: number];

/** The values that map to the bytes 0 and 255; values between them are mapped linearly. */
export type ValueRange = readonly [low: number, high: number];

/** YouTube-8M's range. */
export const DEFAULT_RANGE: ValueRange = [-2, 2];

/** Statistics of quantized values, which show how well the range fits. */
export interface ValueStatistics {
  readonly min: number;
  readonly max: number;
  readonly values: number;
  /** Number of values outside the range, which became 0 or 255. */
  readonly clipped: number;
}

export const NO_VALUES: ValueStatistics = { min: Number.POSITIVE_INFINITY, max: Number.NEGATIVE_INFINITY, values: 0, clipped: 0 };

/**
 * Quantizes values to bytes, `round((clip(x, low, high) - low) * 255 / (high - low))`: with -2 and 2, the same as YouTube-8M's feature extractor
 * (google/youtube-8m, feature_extractor/extract_tfrecords_main.py). The values must be finite.
 */
export function quantize(
  values: Float32Array | Float64Array,
  [low, high]: ValueRange,
): { readonly bytes: Uint8Array; readonly statistics: ValueStatistics } {
  const bytes = new Uint8Array(values.length);
  const scale = 255 / (high - low);
  let { min, max, clipped } = NO_VALUES;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (value < min) min = value;
    if (value > max) max = value;
    if (value < low || value > high) clipped++;
    bytes[i] = Math.round((Math.min(high, Math.max(low, value)) - low) * scale);
  }
  return { bytes, statistics: { min, max, values: values.length, clipped } };
}

/** Merges two statistics. */
export function mergeStatistics(a: ValueStatistics, b: ValueStatistics): ValueStatistics {
  return {
    min: Math.min(a.min, b.min),
    max: Math.max(a.max, b.max),
    values: a.values + b.values,
    clipped: a.clipped + b.clipped,
  };
}

/** Throws BAD_VIDEO if a value of `[frames, size]` is NaN or Inf. */
export function assertFinite(values: Float32Array | Float64Array, size: number, name: string, place: VideoPlace): void {
  const at = values.findIndex((value) => !Number.isFinite(value));
  if (at === -1) return;
  throw new NextvladError("BAD_VIDEO", `value ${at % size} of frame ${Math.floor(at / size)} of ${showText(name)} is NaN or Inf`, {
    ...place,
    found: String(values[at]),
    remedy: "check the feature extraction",
  });
}

/** Throws BAD_VIDEO if a video's feature sizes differ from those of the first one: no model accepts both. */
export function assertSameSizes(found: FeatureSizes, expected: FeatureSizes, video: string | undefined, file: string): void {
  for (const [i, name] of FEATURE_NAMES.entries()) {
    if (found[i] === expected[i]) continue;
    throw new NextvladError("BAD_VIDEO", `the feature size of ${showText(name)} differs from that of the first video`, {
      file,
      ...(video === undefined ? {} : { video }),
      expected: `${expected[i]} values per frame`,
      found: found[i] as number,
      remedy: "use features of one extractor",
    });
  }
}
