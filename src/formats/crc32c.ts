import { crc32c } from "@node-rs/crc32";

/** A checksum as our own JSON files write it: CRC-32C, eight hexadecimal digits. */
export const formatChecksum = (crc: number): string => crc.toString(16).padStart(8, "0");

/** TFRecord's checksum: CRC-32C (Castagnoli), turned by 15 bits and shifted by a constant, so that data holding checksums can be checked too. An unsigned 32-bit number. */
export function maskedCrc32c(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}
