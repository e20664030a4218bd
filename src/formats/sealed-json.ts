import { crc32c } from "@node-rs/crc32";
import { formatChecksum } from "./crc32c.js";

/** Of an object's shortest JSON, keys in the order in which they stand. */
const checksumOf = (value: object): string => formatChecksum(crc32c(JSON.stringify(value)));

/** An object as indented JSON, and last in it, as `crc32c`, the checksum of all before. */
export function sealJson(value: object): string {
  return `${JSON.stringify({ ...value, crc32c: checksumOf(value) }, null, 2)}\n`;
}

/** What `sealJson` wrote, whether or not it is whole. */
export interface SealedObject {
  /** All but the checksum. */
  readonly rest: Record<string, unknown>;
  /** The checksum that it bears, and the one that it has. */
  readonly expected: unknown;
  readonly found: string;
}

/** Reads what `sealJson` wrote; null for what is no JSON object. */
export function unsealJson(text: string): SealedObject | null {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null) return null;
    const { crc32c: expected, ...rest } = value as Record<string, unknown>;
    return { rest, expected, found: checksumOf(rest) };
  } catch {
    return null;
  }
}
