import { NextvladError } from "../base/errors.js";
import { showText } from "../base/shown-value.js";
import type { VideoPlace } from "../data/video-check.js";

/** The values that map to the bytes 0 and 255; values between them are mapped linearly. */
export type ValueRange = readonly [low: number, high: number];

/** YouTube-8M's range. */
export const DEFAULT_RANGE: ValueRange = [-2, 2];

/** Statistics of quantized values, which show how well the range fits. */
export interface ValueStatistics {
  readonly least: number;
  readonly most: number;
  readonly values: number;
  /** Number of values outside the range, which became 0 or 255. */
  readonly clipped: number;
}

export const NO_VALUES: ValueStatistics = { least: Number.POSITIVE_INFINITY, most: Number.NEGATIVE_INFINITY, values: 0, clipped: 0 };

/**
 * Quantizes values to bytes, `round((clip(x, low, high) - low) * 255 / (high - low))`: with -2 and 2, the same as YouTube-8M's feature extractor
 * (google/youtube-8m, feature_extractor/extract_tfrecords_main.py). The values must be finite.
 */
export function quantise(
  values: Float32Array | Float64Array,
  [low, high]: ValueRange,
): { readonly bytes: Uint8Array; readonly statistics: ValueStatistics } {
  const bytes = new Uint8Array(values.length);
  const scale = 255 / (high - low);
  let { least, most, clipped } = NO_VALUES;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    if (value < least) least = value;
    if (value > most) most = value;
    if (value < low || value > high) clipped++;
    bytes[i] = Math.round((Math.min(high, Math.max(low, value)) - low) * scale);
  }
  return { bytes, statistics: { least, most, values: values.length, clipped } };
}

/** Throws BAD_VIDEO if a value of `[frames, size]` is NaN or Inf. */
export function refuseNotFinite(values: Float32Array | Float64Array, size: number, name: string, place: VideoPlace): void {
  const at = values.findIndex((value) => !Number.isFinite(value));
  if (at === -1) return;
  throw new NextvladError("BAD_VIDEO", `value ${at % size} of frame ${Math.floor(at / size)} of ${showText(name)} is not a finite number`, {
    ...place,
    found: String(values[at]),
    remedy: "look for what made it in the feature extraction",
  });
}

/** Merges two statistics. */
export function mergeStatistics(a: ValueStatistics, b: ValueStatistics): ValueStatistics {
  return {
    least: Math.min(a.least, b.least),
    most: Math.max(a.most, b.most),
    values: a.values + b.values,
    clipped: a.clipped + b.clipped,
  };
}
