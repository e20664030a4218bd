import { crc32c } from "@node-rs/crc32";

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
