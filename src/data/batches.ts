import { stat } from "node:fs/promises";
import { NextvladError } from "../base/errors.js";
import { createRandom } from "../base/random.js";
import type { BatchBuilder } from "./batch-builder.js";
import type { Block, BlockOptions, BlockSource } from "./block.js";
import type { LeftOut } from "./damage-sieve.js";
import { mergeShards, OPEN_SHARDS, type Order, orderShards, ShuffleBuffer } from "./order.js";
import type { ReaderPool } from "./reader-pool.js";
import type { RaggedBatch, Video } from "./video.js";
import type { VideoMemory } from "./video-memory.js";

/** One pass over some shards, as batches. */
export interface StreamOptions extends BlockOptions {
  readonly shards: readonly string[];
  readonly order: Order;
  readonly seed: number;
  readonly epoch: number;
  /** Videos a batch. */
  readonly batchSize: number;
  /** Whether the last batch, if it is not full, is left out. */
  readonly dropLast: boolean;
  /** Videos held for shuffling; of no account in sequential order. */
  readonly shuffleBuffer: number;
  /** Reading threads, 1 or more; the order does not depend on them. */
  readonly readers: number;
  /** Batches to leave out at the start: the order is replayed up to there, and goes on as if they had been taken. */
  readonly skipBatches?: number;
}

/** A batch and how far the epoch has come with it: 0..1, by bytes of the shards. */
export interface BatchStep {
  readonly batch: RaggedBatch;
  readonly fraction: number;
}

/** Memory that goes round from epoch to epoch. */
export interface BatchSpace {
  readonly builder: BatchBuilder;
  /** Of videos in the shuffle buffer. */
  readonly waiting: VideoMemory;
}

/** A video on its way, with the bytes on disk that it stands for. */
interface Passage {
  readonly video: Video;
  readonly fileBytes: number;
}

/**
 * The epoch's batches, a pure function of the options without `readers`, in memory of `space`. `onLeftOut` is told what the readers did without,
 * before the batch that follows it in the order. Throws what they meet, at its place in the order, and TOO_FEW_VIDEOS when `dropLast` leaves nothing.
 */
export async function* assembleBatches(
  options: StreamOptions,
  pool: ReaderPool,
  { builder, waiting }: BatchSpace,
  onLeftOut: (parts: readonly LeftOut[]) => void,
): AsyncGenerator<BatchStep, void> {
  const { batchSize, dropLast, skipBatches = 0 } = options;
  const shards = orderShards(options.shards, options.order, options.seed, options.epoch);
  const totalBytes = totalSize(shards);
  let videos = 0;
  let passedBytes = 0;
  for await (const { video, fileBytes } of orderVideos(shards, options, pool, waiting, onLeftOut)) {
    videos++;
    passedBytes += fileBytes;
    if (videos <= skipBatches * batchSize) continue;
    builder.add(video);
    if (builder.size === batchSize) yield { batch: builder.take(), fraction: Math.min(1, passedBytes / (await totalBytes)) };
  }
  const batches = dropLast ? Math.floor(videos / batchSize) : Math.ceil(videos / batchSize);
  if (skipBatches > batches) throw tooManySkipped(skipBatches, batches, dropLast);
  if (dropLast && videos < batchSize) throw tooFew(videos, batchSize, shards.length);
  if (builder.size > 0 && !dropLast) yield { batch: builder.take(), fraction: 1 };
}

/** The videos in their order; each one's bytes are good until the next is asked for. */
async function* orderVideos(
  shards: readonly string[],
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
      openAhead(shards, options.readers, (path, reader) => pool.open(path, reader, reading)),
    )) {
      onLeftOut(block.leftOut);
      yield* passagesOf(block);
    }
    return;
  }
  const buffer = new ShuffleBuffer<Passage>(options.shuffleBuffer, createRandom(options.seed, "videos", options.epoch));
  const open = (position: number, slot: number) => pool.open(shards[position] as string, slot, reading);
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

/** What a reading thread is to know: not the list of shards, which may be long, and goes to it shard by shard. */
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

/** Opens each shard, and with it the next ones, one in each thread, so that the end of one is no halt. */
function openAhead(
  shards: readonly string[],
  readers: number,
  open: (path: string, reader: number) => BlockSource,
): (position: number) => BlockSource {
  const opened: BlockSource[] = [];
  let next = 0;
  return (position) => {
    for (; next < shards.length && next <= position + readers; next++) opened.push(open(shards[next] as string, next));
    return opened.shift() as BlockSource;
  };
}

/** For progress only, so a file that can't be looked at counts nothing: its reader says why, at its place in the order. */
async function totalSize(paths: readonly string[]): Promise<number> {
  const sizes = await Promise.all(
    paths.map((path) =>
      stat(path).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  );
  return Math.max(
    1,
    sizes.reduce((sum, size) => sum + size, 0),
  );
}

/** A state that counts more batches than there are is corrupt, or the data are others: the epoch must not count as done. Training alone drops the last batch. */
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
