import type { FileHandle } from "node:fs/promises";
import { DEFAULT_MAX_RECORD_BYTES } from "../base/byte-size.js";
import type { RecordPlace } from "./byte-source.js";
import { maskedCrc32c } from "./crc32c.js";
import { badChecksum, CHECKSUM_BYTES, HEADER_BYTES, startsTfRecord, tooLong, truncated } from "./tfrecord.js";

/** Reading this many bytes costs about as much as reading one header; a block contains many headers of short records. */
const BLOCK_BYTES = 64 * 1024;

/**
 * How a walk ended: "whole" at the file's end, "cut short" before it because `isOver` returned true, "skipped" if the file is not an uncompressed TFRecord
 * file.
 */
export type WalkEnd = "whole" | "cut short" | "skipped";

/**
 * Walks an uncompressed TFRecord file from record header to record header: checks each length and its checksum, and that the file does not end inside a
 * record. Does not read the data of records longer than a block. Throws CORRUPT_RECORD, and what reading throws.
 */
export async function walkRecordHeaders(
  handle: FileHandle,
  file: string,
  isOver: () => boolean,
  maxRecordBytes = DEFAULT_MAX_RECORD_BYTES,
): Promise<WalkEnd> {
  const { size } = await handle.stat();
  const block = Buffer.alloc(Math.min(BLOCK_BYTES, size));
  const read = async (position: number, most: number): Promise<Buffer> => {
    const bytes = Math.min(block.length, most);
    let filled = 0;
    // A network file system may return fewer bytes than requested; only 0 bytes mean the end of the file.
    while (filled < bytes) {
      const { bytesRead } = await handle.read(block, filled, bytes - filled, position + filled);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return block.subarray(0, filled);
  };
  let held = await read(0, BLOCK_BYTES);
  let heldAt = 0;
  if (!startsTfRecord(held)) return "skipped";
  let position = 0;
  let recordBytes = 0;
  for (let record = 0; position < size; record++) {
    if (isOver()) return "cut short";
    const at: RecordPlace = { file, record, byteOffset: position };
    if (position + HEADER_BYTES > heldAt + held.length) {
      held = await read(position, recordBytes < BLOCK_BYTES ? BLOCK_BYTES : HEADER_BYTES);
      heldAt = position;
    }
    const header = held.subarray(position - heldAt, position - heldAt + HEADER_BYTES);
    if (header.length < HEADER_BYTES) throw truncated(at, HEADER_BYTES, header.length);
    const [stored, computed] = [header.readUInt32LE(8), maskedCrc32c(header.subarray(0, 8))];
    if (stored !== computed) throw badChecksum("length", at, stored, computed);
    const length = header.readUInt32LE(4) * 2 ** 32 + header.readUInt32LE(0);
    if (length > maxRecordBytes) throw tooLong(at, length, maxRecordBytes);
    recordBytes = HEADER_BYTES + length + CHECKSUM_BYTES;
    if (position + recordBytes > size) throw truncated(at, recordBytes, size - position);
    position += recordBytes;
  }
  return "whole";
}
