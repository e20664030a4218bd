import { countReaders, type Threads } from "../base/threads.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import type { Config } from "../config/schema.js";
import type { Shard } from "../data/shard.js";
import type { Cluster } from "../distributed/cluster.js";
import { computeOwnBatches, predictWith } from "../passes/compute-batches.js";
import { loadNetwork } from "../passes/loaded-network.js";
import { awaitPass, connectPass } from "../passes/ranks.js";
import { openReading } from "../passes/reading.js";
import type { Telemetry } from "../telemetry/telemetry.js";

export interface FollowOptions {
  readonly section: "TEST" | "INFER";
  /** `loadNetwork` closes them. */
  readonly weights: WeightSource;
  readonly shards: readonly Shard[];
  readonly limitVideos: number | null;
  readonly threads: Threads;
  readonly cluster: Cluster;
  readonly version: string;
  readonly telemetry: Telemetry;
}

/**
 * Runs `nextvlad eval` or `infer` as a rank other than 0: computes its batches of rank 0's pass, and writes no files. Throws what loading, reading and computing
 * throw, RANK_FAILED if a rank fails, and RANKS_DIFFER.
 */
export async function follow(
  config: Config,
  { section, shards, limitVideos, threads, cluster, version, ...options }: FollowOptions,
): Promise<void> {
  const { MODEL } = config;
  const { batch_size: batchSize, num_readers, on_corrupt: onCorrupt } = config[section];
  const load = { config, section, batchSize, threads, cluster, weights: options.weights } as const;
  const { network, checksum, computedBy, dispose } = await loadNetwork(load, options.telemetry.log);
  const world = await connectPass(cluster, { config, section, shards, limitVideos, weights: checksum, rounding: computedBy, version });
  const start = awaitPass(world);
  if (start !== null) {
    const labels = section === "TEST" ? "required" : "optional";
    const reading = {
      model: MODEL,
      labels,
      shards,
      limitVideos: limitVideos ?? undefined,
      batchSize: start.batchSize,
      readers: countReaders(num_readers, threads),
      onCorrupt,
    } as const;
    const batches = { world, batchSize: start.batchSize, numClasses: MODEL.num_classes };
    const stream = openReading({ ...reading, skipBatches: start.doneBatches, world });
    await computeOwnBatches(stream, predictWith(network, { ...batches, withLoss: section === "TEST" }));
  }
  dispose();
}
