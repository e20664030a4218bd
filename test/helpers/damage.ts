import { readFileSync, truncateSync, writeFileSync } from "node:fs";

/** Where each record of a shard begins: by its framing, 8 bytes of length and 4 of its checksum, the data, 4 of theirs. */
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

/** Cuts the shard off in the record's data. */
export function cutInside(path: string, record: number): void {
  truncateSync(path, (recordStarts(path)[record] as number) + 30);
}
