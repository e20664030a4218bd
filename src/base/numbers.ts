/** Each character can match only one part of the pattern, so matching takes linear time also for long text that does not match. */
const DECIMAL = /^[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?$/;

/** Parses a decimal number such as `-1`, `.5` or `1e-5`; NaN for anything else, including blanks, other bases and Infinity. */
export function parseDecimal(text: string): number {
  return DECIMAL.test(text) ? Number(text) : Number.NaN;
}

const BINARY_UNITS: Readonly<Record<string, number>> = { "": 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 };

/** Parses a number of bytes with an optional binary unit: `268435456`, `512M`, `512MiB`, `1G`; NaN for anything else. */
export function parseByteSize(text: string): number {
  const [, digits = "", unit = ""] = /^\s*(\d{1,15})\s*([KMG]?)(?:i?B)?\s*$/i.exec(text) ?? [];
  return digits === "" ? Number.NaN : Number(digits) * (BINARY_UNITS[unit.toUpperCase()] as number);
}

/** Formats a number of bytes with a decimal unit: "1.5 GB", "12 MB". */
export function formatBytes(bytes: number): string {
  const [size, unit] = bytes < 1e9 ? [bytes / 1e6, "MB"] : [bytes / 1e9, "GB"];
  return `${Number(size.toPrecision(3))} ${unit}`;
}

/** Default maximum length of a shard's record. An hour of YouTube-8M frames takes 4 MB. */
export const DEFAULT_MAX_RECORD_BYTES = 2 ** 28;
/** Largest value that --max-record-bytes accepts. */
export const LARGEST_MAX_RECORD_BYTES = 2 ** 30;

/** Number of values of an array of this shape; `[]` is a scalar. Infinity or inexact if it exceeds any possible memory. */
export function countValues(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Divides `count` items into `parts` consecutive ranges: the first item and the size of each. The first ranges have one more item if there is a remainder. */
export function divideEvenly(count: number, parts: number): readonly (readonly [number, number])[] {
  const size = Math.floor(count / parts);
  const remainder = count % parts;
  return Array.from({ length: parts }, (_, i) => [i * size + Math.min(i, remainder), size + (i < remainder ? 1 : 0)] as const);
}
