import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { crc32c } from "@node-rs/crc32";
import { NextvladError } from "../base/errors.js";
import type { RunState } from "../checkpoints/snapshot.js";
import { formatChecksum } from "../checkpoints/snapshot-state.js";

type ShardList = NonNullable<RunState["shards"]>;

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

/** Throws BAD_CONFIG where a run goes on inside an epoch with another list of shards: it would see videos twice, and others never. */
export function refuseOtherShards(now: ShardList, { shards: then, step_in_epoch }: RunState): void {
  if (then === null || step_in_epoch === 0 || (then.count === now.count && then.crc32c === now.crc32c)) return;
  const [expected, found] = [then, now].map(({ count, crc32c }) => `${count} shards, names and sizes ${crc32c}`) as [string, string];
  const remedy = "put the shards of before back, or go on from the end of an epoch (NEXTVLAD_epoch{N}), where another list is fine";
  const what = "inside an epoch a run cannot go on with another list of shards, as the order of videos hangs on it";
  throw new NextvladError("BAD_CONFIG", what, { key: "TRAIN.filelist", expected, found, remedy });
}
