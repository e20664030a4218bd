import { crc32c } from "@node-rs/crc32";
import { formatChecksum } from "./crc32c.js";

/** Checksum of an object's compact JSON, with its keys in insertion order. */
const checksumOf = (value: object): string => formatChecksum(crc32c(JSON.stringify(value)));

/** Returns an object as indented JSON with an additional last key, `crc32c`: the checksum of all other keys. */
export function sealJson(value: object): string {
  return `${JSON.stringify({ ...value, crc32c: checksumOf(value) }, null, 2)}\n`;
}

/** The parsed output of `sealJson`, whose checksum may not match. */
export interface SealedObject {
  /** All keys except the checksum. */
  readonly rest: Record<string, unknown>;
  /** The stored checksum (`expected`) and the computed one (`found`). */
  readonly expected: unknown;
  readonly found: string;
}

/** Parses the output of `sealJson`; returns null if the text is not a JSON object. */
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
