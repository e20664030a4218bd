import type { Config } from "../config/schema.js";
import { countRepeated, measureRepeatFactors, type RepeatFactors } from "../data/class-balance.js";
import { countRecords } from "../data/record-count.js";
import { fingerprintList, type ListFingerprint, type Shard } from "../data/shard.js";
import { videoShape } from "../data/video.js";
import type { World } from "../distributed/world.js";
import { countSteps } from "../optim/schedule.js";
import type { TrainOptions } from "./options.js";

/** Returns how often an epoch has each video with `class_balance`; undefined without it, or if the run is stopped before. The same on all ranks. Throws what reading the shards throws. */
export async function findRepeatFactors(
  { MODEL, TRAIN }: Config,
  shards: readonly Shard[],
  signal: AbortSignal | null,
): Promise<RepeatFactors | undefined> {
  return TRAIN.class_balance ? measureRepeatFactors(shards, videoShape(MODEL, "required"), TRAIN.on_corrupt, signal) : undefined;
}

/**
 * Rank 0: returns the number of videos of an epoch if the learning rate depends on it, else null; with repeated videos the expected number. If `saved`, the list
 * of the resumed run, has it, and the shards and the limit are the same, returns that: a resumed run has the same rates. Otherwise counts the records; null if
 * the run is stopped before.
 */
export async function countEpochVideos(
  config: Config,
  { shards, limitVideos, signal, telemetry: { log } }: Pick<TrainOptions, "shards" | "limitVideos" | "signal" | "telemetry">,
  saved: ListFingerprint | null,
  world: World,
  factors: RepeatFactors | undefined,
): Promise<number | null> {
  const repeated = factors && countRepeated(shards, factors);
  if (repeated !== undefined) log.info(repeated, `class balance: about ${repeated.expected} videos per epoch, of ${repeated.videos}`);
  if (config.TRAIN.lr_schedule !== "cosine") return null;
  const isSame = saved?.limit_videos === (limitVideos ?? undefined) && saved?.crc32c === fingerprintList(shards, saved?.corrupt).crc32c;
  const known = isSame ? saved?.videos : undefined;
  const counted = repeated?.expected ?? known ?? (await countRecords(shards, videoShape(config.MODEL, "required"), signal));
  const videos = counted && Math.min(counted, limitVideos ?? counted);
  if (videos !== null)
    log.info({ videos }, `${videos} videos per epoch: the cosine schedule has ${countSteps(config.TRAIN, videos)} steps`);
  if (world.size > 1) world.exchangeTexts(JSON.stringify(videos));
  return videos;
}

/** Other ranks: returns what `countEpochVideos` returns on rank 0. */
export function receiveVideoCount({ TRAIN }: Config, world: World): number | null {
  return TRAIN.lr_schedule === "cosine" ? (JSON.parse(world.exchangeTexts("null")[0] ?? "null") as number | null) : null;
}
