import { gzipSync } from "node:zlib";
import { maskedCrc32c } from "../../../src/formats/checksum.js";
import { readTfRecordFile } from "../../../src/formats/containers/tfrecord.js";
import { drain, type Target } from "../target.js";

const [HEADER_BYTES, CHECKSUM_BYTES] = [12, 4];

/** Returns a copy with correct checksums, up to the first record that does not fit into the remaining bytes. */
function fixChecksums(bytes: Uint8Array): Uint8Array {
  const fixed = Buffer.from(bytes);
  for (let at = 0; at + HEADER_BYTES <= fixed.length; ) {
    fixed.writeUInt32LE(maskedCrc32c(fixed.subarray(at, at + 8)), at + 8);
    const end = at + HEADER_BYTES + Number(fixed.readBigUInt64LE(at));
    if (end + CHECKSUM_BYTES > fixed.length) break;
    fixed.writeUInt32LE(maskedCrc32c(fixed.subarray(at + HEADER_BYTES, end)), end);
    at = end + CHECKSUM_BYTES;
  }
  return fixed;
}

export const target: Target = {
  forms: (bytes) => {
    const fixed = fixChecksums(bytes);
    return [bytes, fixed, gzipSync(fixed, { level: 1 })];
  },
  readers: [(file) => drain(readTfRecordFile(file)), (file) => drain(readTfRecordFile(file, { onBadData: () => undefined }))],
};
