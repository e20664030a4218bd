import { NextvladError } from "../base/errors.js";
import type { RunState } from "../checkpoints/snapshot.js";
import { assertSameContents, type ShardList, tellShards } from "../data/shard-list.js";

/** Throws BAD_CONFIG if a run resumes within an epoch with a different list of shards or changed shards: it would see some videos twice and others never. */
export function refuseOtherShards(shards: readonly string[], now: ShardList, { shards: then, step_in_epoch }: RunState): void {
  if (then === null || step_in_epoch === 0) return;
  if (then.count === now.count && then.crc32c === now.crc32c) {
    if (then.contents === undefined || now.contents === undefined) return;
    const remedy = "restore the shard, or resume from the end of an epoch (NEXTVLAD_epoch{N}), where other shards are allowed";
    assertSameContents(shards, then.contents, now.contents, { key: "TRAIN.filelist", remedy, corrupt: then.corrupt });
    return;
  }
  const [expected, found] = [tellShards(then), tellShards(now)];
  const remedy =
    "use the shards that the run began with, or resume from the end of an epoch (NEXTVLAD_epoch{N}), where another list is allowed";
  const what = "a run that resumes inside an epoch needs the same list of shards, because the order of videos depends on it";
  throw new NextvladError("BAD_CONFIG", what, { key: "TRAIN.filelist", expected, found, remedy });
}
