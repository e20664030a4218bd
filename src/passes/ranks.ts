import type { Config } from "../config/schema.js";
import { fingerprintList, type Shard } from "../data/shard.js";
import type { Cluster } from "../distributed/cluster.js";
import { ALONE, World } from "../distributed/world.js";
import type { Rounding } from "../runtime/rounding.js";

/** What the ranks of `eval` or `infer` must have in common. */
export interface PassFacts {
  readonly config: Config;
  readonly section: "TEST" | "INFER";
  readonly shards: readonly Shard[];
  readonly limitVideos: number | null;
  /** Checksum of the weights. */
  readonly weights: string;
  readonly rounding: Rounding;
  readonly version: string;
}

/** Connects the ranks of a cluster, and checks that they do the same pass. Throws RANK_FAILED and RANKS_DIFFER. Without a cluster, returns `ALONE`. */
export async function connectPass(
  cluster: Cluster | null,
  { config, section, shards, limitVideos, weights, rounding, version }: PassFacts,
): Promise<World> {
  if (cluster === null) return ALONE;
  const { precision, on_corrupt } = config[section];
  const world = new World(cluster);
  await world.connect({
    "the version of nextvlad": version,
    "the config": [section, config.MODEL, precision, on_corrupt],
    "the shards": fingerprintList(shards).crc32c,
    "--limit-videos": limitVideos,
    "the weights": weights,
    "the device, processor level or number of threads": rounding,
  });
  return world;
}

/** Where a pass starts. */
export interface PassStart {
  readonly batchSize: number;
  /** Number of batches of an earlier run, which are skipped. */
  readonly doneBatches: number;
}

/** Rank 0: announces where the pass starts; null if nothing is left to compute. */
export function announcePass(world: World, start: PassStart | null): void {
  if (world.size > 1) world.exchange(start === null ? [0, 0] : [start.batchSize, start.doneBatches]);
}

/** Other ranks: waits for rank 0, and returns where the pass starts; null if there is nothing to compute. */
export function awaitPass(world: World): PassStart | null {
  const [[batchSize = 0, doneBatches = 0] = []] = world.exchange([0, 0]);
  return batchSize === 0 ? null : { batchSize, doneBatches };
}
