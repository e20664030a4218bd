import type { Config } from "../config/schema.js";
import { countRecords } from "../data/record-count.js";
import { fingerprintList, type ListFingerprint } from "../data/shard.js";
import { videoShape } from "../data/video.js";
import type { World } from "../distributed/world.js";
import { countSteps } from "../optim/schedule.js";
import type { TrainOptions } from "./options.js";

/**
 * Rank 0: returns the number of videos of an epoch if the learning rate depends on it, else null. If `saved`, the list of the resumed run, has it and names the same
 * shards, returns that: a resumed run has the same rates. Otherwise counts the records; null if the run is stopped before.
 */
export async function countEpochVideos(
  config: Config,
  { shards, limitVideos, signal, telemetry: { log } }: Pick<TrainOptions, "shards" | "limitVideos" | "signal" | "telemetry">,
  saved: ListFingerprint | null,
  world: World,
): Promise<number | null> {
  if (config.TRAIN.lr_schedule !== "cosine") return null;
  const known = saved !== null && fingerprintList(shards, saved.corrupt).crc32c === saved.crc32c ? saved.videos : undefined;
  const counted = known ?? (await countRecords(shards, videoShape(config.MODEL, "required"), signal));
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
