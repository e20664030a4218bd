import { open, stat } from "node:fs/promises";
import { basename } from "node:path";
import { crc32c } from "@node-rs/crc32";
import { NextvladError } from "../base/errors.js";
import { readFully } from "../base/input.js";
import { listFirst } from "../base/problem-list.js";
import { formatChecksum } from "../formats/checksum.js";

/** Identifies a list of shards: their number, and the CRC-32C of their names and sizes in the list's order. */
export interface ShardList {
  readonly count: number;
  readonly crc32c: string;
  /** Name of a shard that was corrupt. Its size is not in the checksum, because an intact copy may have another size. */
  readonly corrupt?: string | undefined;
  /** Undefined in states written by older versions. */
  readonly contents?: ShardContents | undefined;
}

/** Detects a shard that was replaced by another one of the same name and size. Both arrays are in the list's order. */
export interface ShardContents {
  /** Modification times in milliseconds; 0 if the shard is not a regular file. */
  readonly modified_ms: number[];
  /**
   * CRC-32C of each shard's first and last `ENDS_BYTES` bytes and of the first record's own checksum; null if it is not a regular file, or could not be read in
   * time.
   */
  readonly ends_crc32c: (string | null)[];
}

/**
 * Returns what the order of videos depends on besides the seed: the shards' names and sizes in their order, but not their folder. `corrupt` names a shard whose
 * size is ignored. Checksums are read for at most `contentsMs`, so that a read that never returns does not delay the start; after that, only sizes and
 * modification times are recorded.
 */
export async function describeShards(
  shards: readonly string[],
  corrupt?: string,
  contentsMs = CONTENTS_MS,
): Promise<ShardList & { readonly contents: ShardContents }> {
  const found: ShardFacts[] = new Array(shards.length);
  const waiting = shards.entries();
  let timer: NodeJS.Timeout | undefined;
  let isLate = false;
  const deadline = new Promise<null>((resolve) => {
    timer = setTimeout(() => {
      isLate = true;
      resolve(null);
    }, contentsMs);
  });
  const readEnds = (path: string, size: number): Promise<string | null> =>
    isLate ? deadline : Promise.race([checksumEnds(path, size).catch(() => null), deadline]);
  const describeNext = async (): Promise<void> => {
    for (const [shard, path] of waiting) found[shard] = await describeShard(path, readEnds);
  };
  await Promise.all(Array.from({ length: OPEN_FILES }, describeNext));
  clearTimeout(timer);
  const names = shards.map((path) => basename(path));
  const lines = names.map((name, shard) => `${name} ${name === corrupt ? "corrupt" : found[shard]?.size}\n`);
  const contents = { modified_ms: found.map(({ modifiedMs }) => modifiedMs), ends_crc32c: found.map(({ ends }) => ends) };
  const list = { count: shards.length, crc32c: formatChecksum(crc32c(lines.join(""))), contents };
  return corrupt === undefined ? list : { ...list, corrupt };
}

interface ShardFacts {
  readonly size: number;
  readonly modifiedMs: number;
  readonly ends: string | null;
}

/** Default time limit for reading checksums: 3,844 shards take 1.0 to 1.3 s (local disk, cached, busy machine). */
const CONTENTS_MS = 5000;
const OPEN_FILES = 16;
const ENDS_BYTES = 16_384;

/** Returns zeros for a shard that cannot be examined: its reader reports the error. */
async function describeShard(path: string, readEnds: (path: string, size: number) => Promise<string | null>): Promise<ShardFacts> {
  const found = await stat(path).catch(() => null);
  if (found === null) return { size: 0, modifiedMs: 0, ends: null };
  const { size } = found;
  // Opening a pipe would block until it has a writer.
  if (!found.isFile()) return { size, modifiedMs: 0, ends: null };
  return { size, modifiedMs: Math.trunc(found.mtimeMs), ends: await readEnds(path, size) };
}

/**
 * Returns the CRC-32C of a shard's ends. The last record of a TFRecord file ends with the checksum of its data, and gzip ends with the checksum of all data;
 * the first record's checksum is found by its length. So these few bytes cover both records.
 */
async function checksumEnds(path: string, size: number): Promise<string> {
  const handle = await open(path, "r");
  try {
    const read = async (length: number, position: number): Promise<Uint8Array> => {
      const bytes = new Uint8Array(length);
      return bytes.subarray(0, await readFully(handle, bytes, position));
    };
    const head = await read(Math.min(ENDS_BYTES, size), 0);
    let crc = crc32c(head);
    const length = head.length < 8 ? size : Number(new DataView(head.buffer).getBigUint64(0, true));
    if (length + RECORD_OVERHEAD <= size) crc = crc32c(await read(4, 12 + length), crc);
    if (size > ENDS_BYTES) crc = crc32c(await read(ENDS_BYTES, size - ENDS_BYTES), crc);
    return formatChecksum(crc);
  } finally {
    await handle.close();
  }
}

/** Bytes of a TFRecord besides its data: its length, and the checksums of length and data. */
const RECORD_OVERHEAD = 16;

/**
 * Throws BAD_CONFIG if a shard has another modification time than `then`, and its first or last bytes differ too, provided that both checksums are known. A
 * copy with the same content passes.
 * `corrupt` names a shard that may differ.
 */
export function assertSameContents(
  shards: readonly string[],
  then: ShardContents,
  now: ShardContents,
  { corrupt, ...details }: { readonly key: string; readonly remedy: string; readonly corrupt?: string | undefined },
): void {
  const isChanged = (shard: number): boolean => {
    const [before, after] = [then.ends_crc32c[shard] ?? null, now.ends_crc32c[shard] ?? null];
    return then.modified_ms[shard] !== now.modified_ms[shard] && before !== null && after !== null && before !== after;
  };
  const changed = shards.flatMap((path, shard) => (isChanged(shard) && basename(path) !== corrupt ? [shard] : []));
  const first = changed[0];
  if (first === undefined) return;
  const others = changed.length === 1 ? "" : `, and so has that of ${changed.length - 1} more`;
  const what = `the content of this shard has changed since the run began, although its name and size are the same${others}`;
  const describe = ({ modified_ms, ends_crc32c }: ShardContents): string =>
    `${new Date(modified_ms[first] as number).toISOString()} with checksum ${ends_crc32c[first]}`;
  throw new NextvladError("BAD_CONFIG", what, {
    ...details,
    file: shards[first] as string,
    expected: describe(then),
    found: describe(now),
  });
}

/** Formats a list of shards, for errors about a mismatch. */
export function tellShards({ count, crc32c }: ShardList): string {
  return `${count} shards, names and sizes ${crc32c}`;
}

/** Returns a warning about shards without records, out of `shards` listed; null if there are none. */
export function describeEmpty(empty: readonly string[], shards: number): string | null {
  if (empty.length === 0) return null;
  const count = `${empty.length} of ${shards} ${shards === 1 ? "shard" : "shards"} ${empty.length === 1 ? "is" : "are"} empty (0 records)`;
  return `${count}: ${listFirst(empty)}`;
}

/** Returns the error for a list in which every shard is empty. */
export function allEmpty(list: string, shards: number): NextvladError {
  return new NextvladError("TOO_FEW_VIDEOS", `${shards === 1 ? "the shard is" : `all ${shards} shards are`} empty: there are no records`, {
    file: list,
    remedy: "check how the shards were written, or name others",
  });
}

/** Returns a warning about videos with the segment labels of YouTube-8M 2019. `what`: "shards" or "videos". */
export function describeSegments(count: number, what: "shards" | "videos"): string {
  return `segment labels (segment_labels, YouTube-8M 2019) in ${count} ${count === 1 ? what.slice(0, -1) : what} are not used: video-level labels are`;
}
