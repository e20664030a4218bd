/** Types of floats that frames of bytes may hold instead of one byte per feature. */
export type FloatType = "float16" | "float32";

export const FLOAT_BYTES = { float16: 2, float32: 4 } as const;

export const FLOAT_TYPES: readonly FloatType[] = ["float32", "float16"];

/** Returns the remedy for frames of such floats: a sentence without capital or period. */
export function quantizeRemedy(type: FloatType): string {
  return `quantize them to one byte per feature: nextvlad convert --to tfrecord --feature-dtype ${type} --filelist LIST --out DIR (docs/own-features.md)`;
}

/** Minimum number of nonzero values for a decision. */
const MIN_VALUES = 16;
/** Maximum number of values examined. */
const MAX_VALUES = 4096;

/**
 * Detects frames of bytes that are little-endian floats, by the highest byte of each nonzero value: nearly all exponents are those of 2^-10 to 2^6 (float32:
 * 2^-24 to 2^12), while the lowest bytes are spread. In quantized features, all bytes have similar distributions. Returns null if the bytes are not floats or
 * cannot be identified.
 */
export function floatTypeOf(bytes: Uint8Array): FloatType | null {
  if (looksLike(bytes, "float32")) return "float32";
  return looksLike(bytes, "float16") ? "float16" : null;
}

function looksLike(bytes: Uint8Array, type: FloatType): boolean {
  const size = FLOAT_BYTES[type];
  // Range of the highest byte without the sign: exponents 5 to 21 of 31 with two bits of the fraction (float16), or 103 to 139 of 255 without their last bit
  // (float32).
  const [low, high] = type === "float16" ? [0x14, 0x57] : [0x33, 0x45];
  const end = Math.min(bytes.length, MAX_VALUES * size);
  if (bytes.length % size !== 0) return false;
  let values = 0;
  let highest = 0;
  let lowest = 0;
  const isInRange = (byte: number): boolean => (byte & 0x7f) >= low && (byte & 0x7f) <= high;
  for (let at = 0; at < end; at += size) {
    let isZero = true;
    for (let i = 0; i < size; i++) if (bytes[at + i] !== 0) isZero = false;
    if (isZero) continue;
    values++;
    if (isInRange(bytes[at + size - 1] as number)) highest++;
    if (isInRange(bytes[at] as number)) lowest++;
  }
  return values >= MIN_VALUES && highest >= 0.95 * values && lowest <= 0.8 * values;
}
