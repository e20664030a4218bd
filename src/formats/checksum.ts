import { crc32c } from "./crc32.js";

/** Formats a CRC-32C as eight hexadecimal digits, as in this tool's JSON files. */
export const formatChecksum = (crc: number): string => crc.toString(16).padStart(8, "0");

/**
 * Returns TFRecord's masked CRC-32C (Castagnoli), an unsigned 32-bit number: rotated by 15 bits plus a constant, so that data that contain checksums can be
 * checked too.
 */
export function maskedCrc32c(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** Checksum of an object's compact JSON, with its keys in insertion order. */
const checksumOf = (value: object): string => formatChecksum(crc32c(JSON.stringify(value)));

/** Returns an object as indented JSON with an additional last key, `crc32c`: the checksum of all other keys. */
export function stringifyWithChecksum(value: object): string {
  return `${JSON.stringify({ ...value, crc32c: checksumOf(value) }, null, 2)}\n`;
}

/** The parsed output of `stringifyWithChecksum`, whose checksum may not match. */
export interface ChecksummedObject {
  /** All keys except the checksum. */
  readonly rest: Record<string, unknown>;
  /** The stored checksum (`expected`) and the computed one (`found`). */
  readonly expected: unknown;
  readonly found: string;
}

/** Parses the output of `stringifyWithChecksum`; returns null if the text is not a JSON object. */
export function parseWithChecksum(text: string): ChecksummedObject | null {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null) return null;
    const { crc32c: expected, ...rest } = value as Record<string, unknown>;
    return { rest, expected, found: checksumOf(rest) };
  } catch {
    return null;
  }
}
