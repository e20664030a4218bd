import { stat } from "node:fs/promises";
import { DEFAULT_MAX_RECORD_BYTES } from "../base/byte-size.js";
import { fileError } from "../base/errors.js";
import { readInput } from "../base/input.js";
import { openFileSource } from "../formats/containers/byte-source.js";
import { startsTfRecord, type TfRecord, tooLong } from "../formats/containers/tfrecord.js";
import { isSequenceExample } from "../formats/protobuf/sequence-example.js";

const HEAD_BYTES = 64;
/** Possible first bytes of a SequenceExample: the tags of its context and of its feature lists. */
const STARTS: ReadonlySet<number | undefined> = new Set([0x0a, 0x12]);

/**
 * Reads a file that holds one SequenceExample without TFRecord framing, such as MediaPipe's features.pb. Returns its record, or null for any other file.
 * Throws FILE_MISSING, FILE_UNREADABLE, and CORRUPT_RECORD if a file that starts like a SequenceExample is longer than `maxRecordBytes`.
 */
export async function readLoneExample(path: string, maxRecordBytes = DEFAULT_MAX_RECORD_BYTES): Promise<TfRecord | null> {
  const { source, head } = await openFileSource(path, HEAD_BYTES);
  await source.close();
  if (!STARTS.has(head[0]) || startsTfRecord(head)) return null;
  const data = await readWhole(path, maxRecordBytes);
  return isSequenceExample(data) ? { data, file: path, record: 0, byteOffset: 0, filePosition: data.length } : null;
}

async function readWhole(path: string, maxRecordBytes: number): Promise<Uint8Array> {
  try {
    const { size } = await stat(path);
    if (size > maxRecordBytes) throw tooLong({ file: path, record: 0, byteOffset: 0 }, size, maxRecordBytes);
    return await readInput(path, path, maxRecordBytes);
  } catch (error) {
    throw fileError(error, path, "read");
  }
}
