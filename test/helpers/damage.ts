import { readFileSync, truncateSync, writeFileSync } from "node:fs";

/** Returns the byte offset of each record of a shard, from its framing: 8 bytes of length, 4 of its checksum, the data, 4 of their checksum. */
export function recordStarts(path: string): number[] {
  const bytes = readFileSync(path);
  const starts: number[] = [];
  for (let at = 0; at < bytes.length; at += 16 + Number(bytes.readBigUInt64LE(at))) starts.push(at);
  return starts;
}

function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] as number) ^ 1;
  writeFileSync(path, bytes);
}

/** Flips a bit in the record's data. */
export function damageData(path: string, record: number): void {
  flip(path, (recordStarts(path)[record] as number) + 20);
}

/** Flips a bit in the record's length. */
export function damageLength(path: string, record: number): void {
  flip(path, recordStarts(path)[record] as number);
}

/** Truncates the shard within the record's data. */
export function cutInside(path: string, record: number): void {
  truncateSync(path, (recordStarts(path)[record] as number) + 30);
}
