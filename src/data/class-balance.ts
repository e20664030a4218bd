import { deriveSeed } from "../base/random.js";
import type { CorruptPolicy } from "../config/value-types.js";
import { CorruptRecordFilter } from "./corrupt-records.js";
import { OPEN_SHARDS } from "./order.js";
import { type Shard, uniqueShards } from "./shard.js";
import { readShard } from "./shard-reader.js";
import type { VideoShape } from "./video.js";

/** How often an epoch has each video in expectation: by its shard's path, then by its index among the videos of the shard that are not skipped. */
export type RepeatFactors = ReadonlyMap<string, Float32Array>;

/** The labels of a shard's videos, one after another, and their number up to the end of each video. */
interface ShardLabels {
  readonly labels: number[];
  readonly ends: number[];
}

/**
 * Reads the labels of all videos, and returns their repeat factors as in LVIS (arXiv:1908.03195, repeat factor sampling): that of a class is max(1, sqrt(t / f)), f
 * the share of the videos with this class, and t the mean share of the classes that have videos; that of a video is the largest one of its classes, or 1 if it has
 * none. A shard that is listed twice counts twice. Returns undefined if `signal` is aborted before the end. Throws what `readShard` throws, but for corrupt data that the policy skips.
 */
export async function measureRepeatFactors(
  shards: readonly Shard[],
  shape: VideoShape,
  onCorrupt: CorruptPolicy,
  signal: AbortSignal | null,
): Promise<RepeatFactors | undefined> {
  const found = new Map<string, ShardLabels>();
  const waiting = uniqueShards(shards).values();
  const readWaiting = async (): Promise<void> => {
    for (const { path } of waiting) {
      const ofShard: ShardLabels = { labels: [], ends: [] };
      found.set(path, ofShard);
      for await (const { video } of readShard(path, shape, { filter: new CorruptRecordFilter(onCorrupt) })) {
        if (signal?.aborted) return;
        for (const label of video.labels) ofShard.labels.push(label);
        ofShard.ends.push(ofShard.labels.length);
      }
    }
  };
  await Promise.all(Array.from({ length: OPEN_SHARDS }, readWaiting));
  if (signal?.aborted) return undefined;
  const counts = new Float64Array(shape.numClasses);
  for (const { path } of shards) for (const label of found.get(path)?.labels ?? []) counts[label] = (counts[label] as number) + 1;
  const present = counts.filter((count) => count > 0);
  const mean = present.reduce((sum, count) => sum + count, 0) / present.length;
  const factorOf = (label: number): number => Math.max(1, Math.sqrt(mean / (counts[label] as number)));
  return new Map(
    Array.from(found, ([path, { labels, ends }]) => {
      const factors = ends.map((end, video) =>
        labels.slice(ends[video - 1] ?? 0, end).reduce((max, label) => Math.max(max, factorOf(label)), 1),
      );
      return [path, Float32Array.from(factors)];
    }),
  );
}

/** Returns the expected number of videos of an epoch, rounded down, and the number without repetitions. */
export function countRepeated(shards: readonly Shard[], factors: RepeatFactors): { readonly expected: number; readonly videos: number } {
  const all = shards.map(({ path }) => factors.get(path) ?? new Float32Array(0));
  const expected = all.reduce((sum, ofShard) => ofShard.reduce((partial, factor) => partial + factor, sum), 0);
  return { expected: Math.floor(expected), videos: all.reduce((sum, { length }) => sum + length, 0) };
}

/** Returns how often an epoch has a video, at least once: its factor, rounded up with the probability of the fraction. A pure function of its arguments. */
export function drawRepeats(factor: number, seed: number, epoch: number, shard: number, video: number): number {
  const whole = Math.floor(factor);
  const draw = (deriveSeed(seed, "repeats", epoch, shard, video) >>> 0) / 2 ** 32;
  return draw < factor - whole ? whole + 1 : whole;
}
