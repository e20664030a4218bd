import { countReaders, type Threads } from "../base/threads.js";
import type { RunState } from "../checkpoints/snapshot.js";
import type { Config } from "../config/schema.js";
import { isKept } from "../data/block-cache.js";
import type { RepeatFactors } from "../data/class-balance.js";
import type { StreamOptions } from "../data/epoch-videos.js";
import type { Shard } from "../data/shard.js";
import { videoShape } from "../data/video.js";
import type { World } from "../distributed/world.js";

/** What an epoch is read with, besides the config. */
export interface EpochSource {
  readonly shards: readonly Shard[];
  readonly threads: Threads;
  readonly limitVideos: number | null;
  readonly world: Pick<World, "rank" | "size">;
  /** Undefined if no video is repeated. */
  readonly repeatFactors: RepeatFactors | undefined;
}

/** Returns the options of the stream of the rest of a run's current epoch. */
export function epochOptions(
  { MODEL, TRAIN }: Config,
  { shards, threads, limitVideos, world, repeatFactors }: EpochSource,
  run: RunState,
): StreamOptions {
  return {
    ...videoShape(MODEL, "required"),
    onCorrupt: TRAIN.on_corrupt,
    shards,
    order: "shuffled",
    seed: run.seed,
    // With a limit, each epoch has the videos that are first in the order of the first epoch.
    epoch: limitVideos === null ? run.epoch : 0,
    limitVideos: limitVideos ?? undefined,
    batchSize: TRAIN.batch_size,
    dropLast: true,
    shuffleBuffer: TRAIN.shuffle_buffer,
    share: { rank: world.rank, size: world.size, divides: "each batch", readsOwn: world.size > 1 && !isKept(shards) && TRAIN.mixup === 0 },
    repeatFactors,
    mixup: TRAIN.mixup === 0 ? undefined : { alpha: TRAIN.mixup, epoch: run.epoch },
    readers: countReaders(TRAIN.num_readers, threads),
    skipBatches: run.step_in_epoch,
    firstCorrupt: run.shards?.first_corrupt,
  };
}
