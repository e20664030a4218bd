import { NextvladError } from "../base/errors.js";
import { createRandom } from "../base/random.js";
import type { BatchBuilder } from "./batch-builder.js";
import type { Block, BlockOptions, BlockSource } from "./block.js";
import type { LeftOut } from "./damage-sieve.js";
import { mergeShards, OPEN_SHARDS, type Order, orderShards, ShuffleBuffer } from "./order.js";
import type { ReaderPool } from "./reader-pool.js";
import type { Shard } from "./shard.js";
import type { RaggedBatch, Video } from "./video.js";
import type { VideoMemory } from "./video-memory.js";

/** Options of one epoch over a list of shards. */
export interface StreamOptions extends BlockOptions {
  readonly shards: readonly Shard[];
  readonly order: Order;
  readonly seed: number;
  readonly epoch: number;
  /** Videos per batch. */
  readonly batchSize: number;
  /** Whether to drop the last batch if it is not full. */
  readonly dropLast: boolean;
  /** Capacity of the shuffle buffer, in videos; ignored in sequential order. */
  readonly shuffleBuffer: number;
  /** Number of reading threads, at least 1; the order does not depend on it. */
  readonly readers: number;
  /** Number of batches to skip at the start. Their videos are read and dropped, so that the rest of the order is unchanged. */
  readonly skipBatches?: number;
}

/** A batch, and the fraction of the epoch that is done after it: 0..1, by bytes of the shards. */
export interface BatchStep {
  readonly batch: RaggedBatch;
  readonly fraction: number;
}

/** Memory that is reused across epochs. */
export interface BatchSpace {
  readonly builder: BatchBuilder;
  /** Memory of the videos in the shuffle buffer. */
  readonly waiting: VideoMemory;
}

/** A video, and its share of the bytes on disk. */
interface Passage {
  readonly video: Video;
  readonly fileBytes: number;
}

/**
 * Assembles an epoch's batches in memory from `space`; they are a pure function of the options except `readers`. Calls `onLeftOut` with the records that the
 * readers skipped, before the batch that follows them in the order.
 * Throws a reader's error at its place in the order, TOO_FEW_VIDEOS if `dropLast` drops every batch, and BAD_SNAPSHOT or BAD_RESULTS if `skipBatches` exceeds
 * the number of batches.
 */
export async function* assembleBatches(
  options: StreamOptions,
  pool: ReaderPool,
  { builder, waiting }: BatchSpace,
  onLeftOut: (parts: readonly LeftOut[]) => void,
): AsyncGenerator<BatchStep, void> {
  const { batchSize, dropLast, skipBatches = 0 } = options;
  const shards = orderShards(options.shards, options.order, options.seed, options.epoch);
  const totalBytes = Math.max(
    1,
    shards.reduce((sum, { bytes }) => sum + bytes, 0),
  );
  let videos = 0;
  let passedBytes = 0;
  for await (const { video, fileBytes } of orderVideos(shards, options, pool, waiting, onLeftOut)) {
    videos++;
    passedBytes += fileBytes;
    if (videos <= skipBatches * batchSize) continue;
    builder.add(video);
    if (builder.size === batchSize) yield { batch: builder.take(), fraction: Math.min(1, passedBytes / totalBytes) };
  }
  const batches = dropLast ? Math.floor(videos / batchSize) : Math.ceil(videos / batchSize);
  if (skipBatches > batches) throw tooManySkipped(skipBatches, batches, dropLast);
  if (dropLast && videos < batchSize) throw tooFew(videos, batchSize, shards.length);
  if (builder.size > 0 && !dropLast) yield { batch: builder.take(), fraction: 1 };
}

/** Yields the videos in epoch order. The bytes of a video are valid until the next one is requested. */
async function* orderVideos(
  shards: readonly Shard[],
  options: StreamOptions,
  pool: ReaderPool,
  waiting: VideoMemory,
  onLeftOut: (parts: readonly LeftOut[]) => void,
): AsyncGenerator<Passage, void> {
  const reading = blockOptions(options);
  if (options.order === "sequential") {
    for await (const block of mergeShards(
      shards.length,
      1,
      openAhead(shards, options.readers, ({ path }, reader) => pool.open(path, reader, reading)),
    )) {
      onLeftOut(block.leftOut);
      yield* passagesOf(block);
    }
    return;
  }
  const buffer = new ShuffleBuffer<Passage>(options.shuffleBuffer, createRandom(options.seed, "videos", options.epoch));
  const open = (position: number, slot: number) => pool.open((shards[position] as Shard).path, slot, reading);
  for await (const block of mergeShards(shards.length, OPEN_SHARDS, open)) {
    onLeftOut(block.leftOut);
    for (const { video, fileBytes } of passagesOf(block)) {
      const leaving = buffer.exchange({ video: waiting.keep(video), fileBytes });
      if (leaving === undefined) continue;
      yield leaving;
      waiting.giveBack(leaving.video);
    }
  }
  for (const leaving of buffer.drain()) {
    yield leaving;
    waiting.giveBack(leaving.video);
  }
}

function passagesOf({ videos, fileBytes }: Block): Passage[] {
  return videos.map((video) => ({ video, fileBytes: fileBytes / videos.length }));
}

/** Returns the options that a reading thread needs. The list of shards is not among them: it may be long, and shards are opened by one message each. */
function blockOptions({
  maxFrames,
  featureNames,
  featureSizes,
  numClasses,
  labels,
  maxRecordBytes,
  onCorrupt = "error",
}: StreamOptions): BlockOptions {
  return { maxFrames, featureNames, featureSizes, numClasses, labels, maxRecordBytes, onCorrupt };
}

/**
 * Returns a function that opens the shard at a position. It also opens the next `readers` shards, one per thread, so that reading does not pause between
 * shards.
 */
function openAhead(
  shards: readonly Shard[],
  readers: number,
  open: (shard: Shard, reader: number) => BlockSource,
): (position: number) => BlockSource {
  const opened: BlockSource[] = [];
  let next = 0;
  return (position) => {
    for (; next < shards.length && next <= position + readers; next++) opened.push(open(shards[next] as Shard, next));
    return opened.shift() as BlockSource;
  };
}

/**
 * Returns the error for a state that counts more batches than there are: it is corrupt, or the data differ, and the epoch must not count as complete. Only
 * training drops the last batch.
 */
function tooManySkipped(skipped: number, batches: number, isTraining: boolean): NextvladError {
  const what = `corrupt ${isTraining ? "snapshot" : "partial results"}: more batches are done than the shards hold`;
  const values = { key: isTraining ? "step_in_epoch" : "batches", expected: `at most ${batches}`, found: skipped };
  const remedy = isTraining ? "use another snapshot, or the shards that the run began with" : "start from the beginning, without --resume";
  return new NextvladError(isTraining ? "BAD_SNAPSHOT" : "BAD_RESULTS", what, { ...values, remedy });
}

function tooFew(videos: number, batchSize: number, shards: number): NextvladError {
  return new NextvladError("TOO_FEW_VIDEOS", `there are fewer videos than fit in one batch, and training drops a batch that is not full`, {
    expected: `at least ${batchSize} videos`,
    found: `${videos} in ${shards} ${shards === 1 ? "shard" : "shards"}`,
    remedy: `set batch_size to ${videos} or less, or add shards to the list`,
  });
}
