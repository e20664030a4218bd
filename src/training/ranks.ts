import type { RunState } from "../checkpoints/snapshot.js";
import type { Config } from "../config/schema.js";
import { fingerprintList, type Shard } from "../data/shard.js";
import type { Cluster } from "../distributed/cluster.js";
import { ALONE, MAX_EXACT, World } from "../distributed/world.js";
import { crc32c } from "../formats/crc32.js";
import type { Rounding } from "../runtime/rounding.js";
import type { StoredArray } from "../runtime/variables.js";
import type { TrainingState } from "./state.js";

/** The number of an announcement is its index. */
const ANNOUNCEMENTS = ["step", "epoch end", "validation", "save", "run end", "reported step", "histograms", "ema validation"] as const;

/** What rank 0, which logs, validates and saves, lets the other ranks do next. They wait for it before each step and after each epoch. */
export type Announcement = (typeof ANNOUNCEMENTS)[number];

const EPOCH_END = ANNOUNCEMENTS.indexOf("epoch end");

/** What all ranks of a run must have in common. */
export interface RunFacts {
  readonly config: Config;
  readonly shards: readonly Shard[];
  readonly validShards: readonly Shard[];
  readonly limitVideos: number | null;
  readonly run: RunState | null;
  readonly rounding: Rounding;
  readonly version: string;
}

/** Connects the ranks of a cluster, and checks that they start the same run. Throws RANK_FAILED and RANKS_DIFFER. Without a cluster, returns `ALONE`. */
export async function connectRanks(
  cluster: Cluster | null,
  { config, shards, validShards, limitVideos, run, rounding, version }: RunFacts,
): Promise<World> {
  if (cluster === null) return ALONE;
  const { filelist: _, num_readers: __, use_gpu: ___, seed, ...settings } = config.TRAIN;
  const world = new World(cluster);
  await world.connect({
    "the version of nextvlad": version,
    "the config": [config.MODEL, settings, config.VALID.batch_size],
    "the seed": run?.seed ?? seed,
    "the training shards": fingerprintList(shards).crc32c,
    "the validation shards": fingerprintList(validShards).crc32c,
    "--limit-videos": limitVideos,
    "the snapshot to resume from": [run?.step, run?.epoch],
    "the device, processor level or number of threads": rounding,
  });
  return world;
}

/** All ranks, before the first step: checks that they start with the same weights and optimizer state. Throws RANKS_DIFFER. */
export function assertSameStart(world: World, state: TrainingState): void {
  if (world.size === 1) return;
  world.assertSame(["the initial weights"], world.exchange([checksumOf([...weightsOf(state), ...state.optimizer.arrays()])]));
}

/**
 * Rank 0: lets the others take part in a step (with or without a report), a validation (of the weights, or of their averages), a save (`sendState`) or
 * histograms (`sendRows`), or end.
 */
export function announce(world: World, what: Exclude<Announcement, "epoch end">): void {
  if (world.size > 1) world.exchange([ANNOUNCEMENTS.indexOf(what), 0]);
}

/** Rank 0, after an epoch: checks that all ranks have the same weights and averages. Throws RANKS_DIFFER. */
export function announceEpochEnd(world: World, state: TrainingState): void {
  if (world.size === 1) return;
  assertSameWeights(world, world.exchange([EPOCH_END, checksumOf(weightsOf(state))]));
}

/**
 * Other ranks: waits for what rank 0 announces. `finished`: the state of a rank that has finished its epoch, else null; at the end of the epoch, the weights and
 * averages are compared. Throws RANKS_DIFFER.
 */
export function awaitAnnouncement(world: World, finished: TrainingState | null): Announcement {
  const all = world.exchange(finished === null ? [0, 0] : [EPOCH_END, checksumOf(weightsOf(finished))]);
  const announced = all[0]?.[0] as number;
  if (announced === EPOCH_END && finished !== null) assertSameWeights(world, all);
  return ANNOUNCEMENTS[announced] as Announcement;
}

/** Compares the checksums of the ranks that have finished the epoch. One that is stopped at the last step of an epoch may be announced its end before. */
function assertSameWeights(world: World, all: readonly (readonly number[])[]): void {
  const own = all[world.rank]?.[1] ?? 0;
  world.assertSame(
    ["the weights"],
    all.map(([announced, checksum = 0]) => [announced === EPOCH_END ? checksum : own]),
  );
}

/** Returns the weights and their averages. */
function weightsOf({ store, ema }: TrainingState): readonly StoredArray[] {
  return [...store.arrays(), ...(ema?.store.arrays() ?? [])];
}

/** Returns the checksum of the arrays that all ranks store whole. */
function checksumOf(arrays: readonly StoredArray[]): number {
  let crc = 0;
  for (const { download } of arrays.filter(({ isDivided }) => !isDivided)) {
    const { buffer, byteOffset, byteLength } = download();
    crc = crc32c(new Uint8Array(buffer, byteOffset, byteLength), crc);
  }
  return crc % MAX_EXACT;
}
