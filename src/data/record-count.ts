import { OPEN_SHARDS } from "./order.js";
import type { Shard } from "./shard.js";
import { indexShard } from "./shard-reader.js";
import type { VideoShape } from "./video.js";

/**
 * Returns the number of records of all shards, by their headers; null if `signal` is aborted before. A shard that is listed twice counts twice. Of a corrupt shard,
 * it counts the records up to the place where the next one cannot be found. Compressed shards and pickles are read whole.
 */
export async function countRecords(shards: readonly Shard[], shape: VideoShape, signal: AbortSignal): Promise<number | null> {
  const waiting = shards.values();
  const countWaiting = async (): Promise<number> => {
    let records = 0;
    for (const { path } of waiting) records += (await indexShard(path, shape, () => signal.aborted)).ends.length;
    return records;
  };
  const counts = await Promise.all(Array.from({ length: OPEN_SHARDS }, countWaiting));
  return signal.aborted ? null : counts.reduce((sum, count) => sum + count);
}
