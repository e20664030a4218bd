import { NextvladError } from "../base/errors.js";
import type { RunState } from "../checkpoints/snapshot.js";
import { type ShardList, tellShards } from "../data/shard-list.js";

/** Throws BAD_CONFIG where a run goes on inside an epoch with another list of shards: it would see videos twice, and others never. */
export function refuseOtherShards(now: ShardList, { shards: then, step_in_epoch }: RunState): void {
  if (then === null || step_in_epoch === 0 || (then.count === now.count && then.crc32c === now.crc32c)) return;
  const [expected, found] = [tellShards(then), tellShards(now)];
  const remedy = "put the shards of before back, or go on from the end of an epoch (NEXTVLAD_epoch{N}), where another list is fine";
  const what = "inside an epoch a run cannot go on with another list of shards, as the order of videos hangs on it";
  throw new NextvladError("BAD_CONFIG", what, { key: "TRAIN.filelist", expected, found, remedy });
}
