import { gzipSync } from "node:zlib";
import { maskedCrc32c } from "../../../src/formats/checksum.js";
import { readTfRecordFile } from "../../../src/formats/containers/tfrecord.js";
import { drain, type Target } from "../target.js";

const [HEADER_BYTES, CHECKSUM_BYTES] = [12, 4];

/** Returns a copy with correct checksums, up to the first record that does not fit into the remaining bytes. */
function mendChecksums(bytes: Uint8Array): Uint8Array {
  const mended = Buffer.from(bytes);
  for (let at = 0; at + HEADER_BYTES <= mended.length; ) {
    mended.writeUInt32LE(maskedCrc32c(mended.subarray(at, at + 8)), at + 8);
    const end = at + HEADER_BYTES + Number(mended.readBigUInt64LE(at));
    if (end + CHECKSUM_BYTES > mended.length) break;
    mended.writeUInt32LE(maskedCrc32c(mended.subarray(at + HEADER_BYTES, end)), end);
    at = end + CHECKSUM_BYTES;
  }
  return mended;
}

export const target: Target = {
  forms: (bytes) => {
    const mended = mendChecksums(bytes);
    return [bytes, mended, gzipSync(mended, { level: 1 })];
  },
  readers: [(file) => drain(readTfRecordFile(file)), (file) => drain(readTfRecordFile(file, { onBadData: () => undefined }))],
};
