import { readFileSync, truncateSync, writeFileSync } from "node:fs";

/** Returns the byte offset of each record of a shard, from its framing: 8 bytes of length, 4 of its checksum, the data, 4 of their checksum. */
export function recordOffsets(path: string): number[] {
  const bytes = readFileSync(path);
  const offsets: number[] = [];
  for (let at = 0; at < bytes.length; at += 16 + Number(bytes.readBigUInt64LE(at))) offsets.push(at);
  return offsets;
}

function flipBit(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] as number) ^ 1;
  writeFileSync(path, bytes);
}

/** Flips a bit in the record's data. */
export function corruptData(path: string, record: number): void {
  flipBit(path, (recordOffsets(path)[record] as number) + 20);
}

/** Flips a bit in the record's length. */
export function corruptLength(path: string, record: number): void {
  flipBit(path, recordOffsets(path)[record] as number);
}

/** Truncates the shard within the record's data. */
export function truncateRecord(path: string, record: number): void {
  truncateSync(path, (recordOffsets(path)[record] as number) + 30);
}
