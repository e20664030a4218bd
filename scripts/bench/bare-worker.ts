import { closeSync, openSync, readSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import { maskedCrc32c } from "../../src/formats/checksum.js";

const HEADER_BYTES = 12;
const CHECKSUM_BYTES = 4;

/** Lower bound of checking a shard: reads it into one buffer and computes both checksums of each record. Returns the number of records. */
function readBare(path: string, buffer: Uint8Array): number {
  const view = new DataView(buffer.buffer);
  const file = openSync(path, "r");
  let [start, end, records] = [0, 0, 0];
  const have = (bytes: number): boolean => {
    if (start + bytes > buffer.length) {
      buffer.copyWithin(0, start, end);
      end -= start;
      start = 0;
    }
    while (end - start < bytes) {
      const read = readSync(file, buffer, end, buffer.length - end, null);
      if (read === 0) return false;
      end += read;
    }
    return true;
  };
  while (have(HEADER_BYTES)) {
    const length = view.getUint32(start, true);
    const recordBytes = HEADER_BYTES + length + CHECKSUM_BYTES;
    const isComplete = maskedCrc32c(buffer.subarray(start, start + 8)) === view.getUint32(start + 8, true) && have(recordBytes);
    const data = buffer.subarray(start + HEADER_BYTES, start + HEADER_BYTES + length);
    if (!isComplete || maskedCrc32c(data) !== view.getUint32(start + HEADER_BYTES + length, true)) throw new Error(`${path} is corrupt`);
    start += recordBytes;
    records++;
  }
  closeSync(file);
  return records;
}

const buffer = new Uint8Array(2 ** 21);
parentPort?.on("message", (path: string) => parentPort?.postMessage(readBare(path, buffer)));
