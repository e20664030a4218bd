import { readFile } from "node:fs/promises";
import { fileError } from "../base/errors.js";
import { openFileSource } from "../formats/byte-source.js";
import { isSequenceExample } from "../formats/sequence-example.js";
import { startsTfRecord, type TfRecord } from "../formats/tfrecord.js";

const HEAD_BYTES = 64;
/** The tag of a context or of feature lists. */
const STARTS: ReadonlySet<number | undefined> = new Set([0x0a, 0x12]);

/** The record of a file that is one SequenceExample outside a TFRecord, as MediaPipe's features.pb; null for any other file. Throws FILE_UNREADABLE. */
export async function readLoneExample(path: string): Promise<TfRecord | null> {
  const { source, head } = await openFileSource(path, HEAD_BYTES);
  await source.close();
  if (!STARTS.has(head[0]) || startsTfRecord(head)) return null;
  const data = await readFile(path).catch((error: unknown) => {
    throw fileError(error, path, "read");
  });
  return isSequenceExample(data) ? { data, file: path, record: 0, byteOffset: 0, filePosition: data.length } : null;
}
