import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { crc32c } from "@node-rs/crc32";
import { NextvladError } from "../base/errors.js";
import { listFirst } from "../base/problem-list.js";
import { formatChecksum } from "../formats/crc32c.js";

/** What a list of shards is known by: how many, and the CRC-32C of their names and sizes in the list's order. */
export interface ShardList {
  readonly count: number;
  readonly crc32c: string;
  /** The name of a shard that was corrupt. Its size is not in the checksum: a good copy may have another one. */
  readonly corrupt?: string | undefined;
}

/** What the order of videos depends on besides the seed: the shards' names and sizes in their order, not their folder. `corrupt` names a shard whose size does not count. */
export async function describeShards(shards: readonly string[], corrupt?: string): Promise<ShardList> {
  // A shard that cannot be looked at is its reader's to report.
  const sizes = await Promise.all(
    shards.map((path) =>
      stat(path).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  );
  const names = shards.map((path) => basename(path));
  const lines = names.map((name, shard) => `${name} ${name === corrupt ? "corrupt" : sizes[shard]}\n`);
  const list = { count: shards.length, crc32c: formatChecksum(crc32c(lines.join(""))) };
  return corrupt === undefined ? list : { ...list, corrupt };
}

/** A list of shards in words, for where two disagree. */
export function tellShards({ count, crc32c }: ShardList): string {
  return `${count} shards, names and sizes ${crc32c}`;
}

/** A warning for shards that hold no record, of so many that were listed; null where there are none. */
export function describeEmpty(empty: readonly string[], shards: number): string | null {
  if (empty.length === 0) return null;
  const count = `${empty.length} of ${shards} ${shards === 1 ? "shard" : "shards"} ${empty.length === 1 ? "is" : "are"} empty (0 records)`;
  return `${count}: ${listFirst(empty)}`;
}

/** The error for a list of which every shard is empty. */
export function allEmpty(list: string, shards: number): NextvladError {
  return new NextvladError("TOO_FEW_VIDEOS", `${shards === 1 ? "the shard is" : `all ${shards} shards are`} empty: there are no records`, {
    file: list,
    remedy: "check how the shards were written, or name others",
  });
}

/** A warning for videos with the segment labels of YouTube-8M 2019. `what`: "shards" or "videos". */
export function describeSegments(count: number, what: "shards" | "videos"): string {
  return `segment labels (segment_labels, YouTube-8M 2019) in ${count} ${count === 1 ? what.slice(0, -1) : what} are not used: video-level labels are`;
}
