import type { RunState } from "../checkpoints/snapshot.js";
import type { Config } from "../config/schema.js";
import { fingerprintList, type Shard } from "../data/shard.js";
import type { Cluster } from "../distributed/cluster.js";
import { ALONE, World } from "../distributed/world.js";
import { crc32c } from "../formats/crc32.js";
import type { WeightStore } from "../model/weights.js";
import type { Rounding } from "../runtime/rounding.js";
import type { StoredArray } from "../runtime/variables.js";
import type { TrainingState } from "./state.js";

/** What rank 0, which logs, validates and saves, announces to the other ranks. They wait for it before each step and after each epoch. */
const STEP = 1;
const EPOCH_END = 2;
const RUN_END = 3;

/** Announcements are numbers that float32 represents exactly. */
const MAX_EXACT = 2 ** 24;

/** What all ranks of a run must have in common. */
export interface RunFacts {
  readonly config: Config;
  readonly shards: readonly Shard[];
  readonly run: RunState | null;
  readonly rounding: Rounding;
  readonly version: string;
}

/** Connects the ranks of a cluster, and checks that they start the same run. Throws RANK_FAILED and RANKS_DIFFER. Without a cluster, returns `ALONE`. */
export function connectRanks(cluster: Cluster | null, { config, shards, run, rounding, version }: RunFacts): World {
  if (cluster === null) return ALONE;
  const { filelist: _, num_readers: __, use_gpu: ___, seed, ...settings } = config.TRAIN;
  const world = new World(cluster);
  world.connect({
    "the version of nextvlad": hash(version),
    "the config": hash([config.MODEL, settings]),
    "the seed": hash(run?.seed ?? seed),
    "the training shards": hash(fingerprintList(shards).crc32c),
    "the snapshot to resume from": hash([run?.step, run?.epoch]),
    "the device, processor level or number of threads": hash(rounding),
  });
  return world;
}

/** All ranks, before the first step: checks that they start with the same weights and optimizer state. Throws RANKS_DIFFER. */
export function assertSameStart(world: World, { store, optimizer }: TrainingState): void {
  if (world.size === 1) return;
  world.assertSame(["the initial weights"], world.exchange([checksumOf([...store.arrays(), ...optimizer.arrays()])]));
}

function hash(value: unknown): number {
  return crc32c(JSON.stringify(value) ?? "") % MAX_EXACT;
}

/** Rank 0: lets the others run the next step. */
export function announceStep(world: World): void {
  if (world.size > 1) world.exchange([STEP, 0]);
}

/** Rank 0: lets the others end. */
export function announceEnd(world: World): void {
  if (world.size > 1) world.exchange([RUN_END, 0]);
}

/** Rank 0, after an epoch: checks that all ranks have the same weights. Throws RANKS_DIFFER. */
export function announceEpochEnd(world: World, store: WeightStore): void {
  if (world.size === 1) return;
  assertSameWeights(world, world.exchange([EPOCH_END, checksumOf(store.arrays())]));
}

/** What a rank other than 0 does next. */
export type Announcement = "step" | "epoch end" | "run end";

/** Other ranks: waits for rank 0 before a step. */
export function awaitStep(world: World): Announcement {
  const [[announced] = []] = world.exchange([STEP, 0]);
  if (announced === STEP) return "step";
  return announced === EPOCH_END ? "epoch end" : "run end";
}

/** Other ranks: waits for rank 0 after an epoch, and checks that all have the same weights; returns false if the run ends instead. Throws RANKS_DIFFER. */
export function awaitEpochEnd(world: World, store: WeightStore): boolean {
  const all = world.exchange([EPOCH_END, checksumOf(store.arrays())]);
  if (all[0]?.[0] !== EPOCH_END) return false;
  assertSameWeights(world, all);
  return true;
}

/** Other ranks, after the last epoch: waits until rank 0 has validated and saved. */
export function awaitRunEnd(world: World): void {
  world.exchange([RUN_END, 0]);
}

/** Compares the checksums of the ranks that have finished the epoch. One that is stopped at the last step of an epoch may be announced its end before. */
function assertSameWeights(world: World, all: readonly (readonly number[])[]): void {
  const own = all[world.rank]?.[1] ?? 0;
  world.assertSame(
    ["the weights"],
    all.map(([announced, checksum = 0]) => [announced === EPOCH_END ? checksum : own]),
  );
}

function checksumOf(arrays: readonly StoredArray[]): number {
  let crc = 0;
  for (const { download } of arrays) {
    const { buffer, byteOffset, byteLength } = download();
    crc = crc32c(new Uint8Array(buffer, byteOffset, byteLength), crc);
  }
  return crc % MAX_EXACT;
}
