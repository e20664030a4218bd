import { divideEvenly } from "../base/numbers.js";

/** What one of several processes ("ranks") reads of an epoch. */
export interface Share {
  readonly rank: number;
  readonly size: number;
  /** Whether the ranks divide the videos of each batch, or take whole batches in turn. */
  readonly divides: "each batch" | "the batches";
  /** Whether the rank reads only its own videos, where it finds them by their record headers; else it reads all. */
  readonly readsOwn: boolean;
}

/** Returns the videos of a batch that are a rank's own if the ranks divide each batch; all without a share. */
export function ownRange(share: Share | undefined, batchSize: number): { readonly first: number; readonly count: number } {
  if (share === undefined) return { first: 0, count: batchSize };
  const [first, count] = divideEvenly(batchSize, share.size)[share.rank] as readonly [number, number];
  return { first, count };
}

/**
 * Returns whether a video of an epoch is a rank's own, by its index among the videos of all batches. Batches that are taken in turn count from 0 after the first
 * `skipBatches`.
 */
export function ownVideos(share: Share, batchSize: number, skipBatches: number): (video: number) => boolean {
  const { rank, size, divides } = share;
  if (divides === "the batches") return (video) => (Math.floor(video / batchSize) - skipBatches) % size === rank;
  const { first, count } = ownRange(share, batchSize);
  return (video) => video % batchSize >= first && video % batchSize < first + count;
}
