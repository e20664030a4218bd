import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { crc32c } from "@node-rs/crc32";
import { formatChecksum } from "../formats/crc32c.js";

/** What a list of shards is known by: how many, and the CRC-32C of their names and sizes in the list's order. */
export interface ShardList {
  readonly count: number;
  readonly crc32c: string;
}

/** What the order of videos hangs on besides the seed: the shards' names and sizes in their order, not the folder that they lie in. */
export async function describeShards(shards: readonly string[]): Promise<ShardList> {
  // A shard that cannot be looked at is its reader's to report.
  const sizes = await Promise.all(
    shards.map((path) =>
      stat(path).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  );
  const lines = shards.map((path, shard) => `${basename(path)} ${sizes[shard]}\n`);
  return { count: shards.length, crc32c: formatChecksum(crc32c(lines.join(""))) };
}

/** A list of shards in words, for where two disagree. */
export function tellShards({ count, crc32c }: ShardList): string {
  return `${count} shards, names and sizes ${crc32c}`;
}
