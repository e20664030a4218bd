import { NextvladError } from "../base/errors.js";
import { createRandom } from "../base/random.js";
import { BufferPool, Concatenation, type VideoPool } from "./buffer-pool.js";
import type { SkippedRecord } from "./corrupt-records.js";
import { mergeShards, OPEN_SHARDS, type Order, orderShards, ShuffleBuffer } from "./order.js";
import type { BlockSource, ReaderPool } from "./reader-pool.js";
import type { Shard } from "./shard.js";
import type { Block, BlockOptions } from "./shard-reader.js";
import type { RaggedBatch, Video } from "./video.js";

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
  /** Number of reader threads, at least 1; the order does not depend on it. */
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
  readonly videos: VideoPool;
}

/** A video that is not in a batch yet, and its share of the bytes on disk. */
interface PendingVideo {
  readonly video: Video;
  readonly fileBytes: number;
}

/**
 * Assembles an epoch's batches in memory from `space`; they are a pure function of the options except `readers`. Calls `onSkipped` with the records that the
 * readers skipped, before the batch that follows them in the order.
 * Throws a reader's error at its place in the order, TOO_FEW_VIDEOS if `dropLast` drops every batch, and BAD_SNAPSHOT or BAD_RESULTS if `skipBatches` exceeds
 * the number of batches.
 */
export async function* assembleBatches(
  options: StreamOptions,
  pool: ReaderPool,
  space: BatchSpace,
  onSkipped: (skipped: readonly SkippedRecord[]) => void,
): AsyncGenerator<BatchStep, void> {
  const { builder } = space;
  const { batchSize, dropLast, skipBatches = 0 } = options;
  const totalBytes = Math.max(
    1,
    options.shards.reduce((sum, { bytes }) => sum + bytes, 0),
  );
  let videos = 0;
  let doneBytes = 0;
  for await (const { video, fileBytes } of orderVideos(options, pool, space.videos, onSkipped)) {
    videos++;
    doneBytes += fileBytes;
    if (videos <= skipBatches * batchSize) continue;
    builder.add(video);
    if (builder.size === batchSize) yield { batch: builder.take(), fraction: Math.min(1, doneBytes / totalBytes) };
  }
  const batches = dropLast ? Math.floor(videos / batchSize) : Math.ceil(videos / batchSize);
  if (skipBatches > batches) throw tooManySkipped(skipBatches, batches, dropLast);
  if (dropLast && videos < batchSize) throw tooFew(videos, batchSize, options.shards.length);
  if (builder.size > 0 && !dropLast) yield { batch: builder.take(), fraction: 1 };
}

/** Yields the videos in epoch order. The bytes of a video are valid until the next one is requested. */
async function* orderVideos(
  options: StreamOptions,
  pool: ReaderPool,
  videos: VideoPool,
  onSkipped: (skipped: readonly SkippedRecord[]) => void,
): AsyncGenerator<PendingVideo, void> {
  const shards = orderShards(options.shards, options.order, options.seed, options.epoch);
  const reading = blockOptions(options);
  const open = ({ path }: Shard, reader: number): BlockSource => pool.open(path, reader, reading);
  if (options.order === "sequential") {
    for await (const block of mergeShards(shards.length, 1, openAhead(shards, options.readers, open))) {
      onSkipped(block.skipped);
      yield* videosOf(block);
    }
    return;
  }
  const buffer = new ShuffleBuffer<PendingVideo>(options.shuffleBuffer, createRandom(options.seed, "videos", options.epoch));
  for await (const block of mergeShards(shards.length, OPEN_SHARDS, (position, slot) => open(shards[position] as Shard, slot))) {
    onSkipped(block.skipped);
    for (const { video, fileBytes } of videosOf(block)) {
      const leaving = buffer.exchange({ video: videos.copy(video), fileBytes });
      if (leaving === undefined) continue;
      yield leaving;
      videos.release(leaving.video);
    }
  }
  for (const leaving of buffer.drain()) {
    yield leaving;
    videos.release(leaving.video);
  }
}

function videosOf({ videos, fileBytes }: Block): PendingVideo[] {
  return videos.map((video) => ({ video, fileBytes: fileBytes / videos.length }));
}

/** Returns the options that a reader thread needs. The list of shards is not among them: it may be long, and shards are opened by one message each. */
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
  const what = `corrupt ${isTraining ? "snapshot" : "partial results"}: more batches are done than the shards contain`;
  const values = { key: isTraining ? "step_in_epoch" : "batches", expected: `at most ${batches}`, found: skipped };
  const remedy = isTraining ? "use another snapshot, or the run's own shards" : "start from the beginning, without --resume";
  return new NextvladError(isTraining ? "BAD_SNAPSHOT" : "BAD_RESULTS", what, { ...values, remedy });
}

function tooFew(videos: number, batchSize: number, shards: number): NextvladError {
  return new NextvladError("TOO_FEW_VIDEOS", "fewer videos than one batch, and training drops incomplete batches", {
    expected: `at least ${batchSize} videos`,
    found: `${videos} in ${shards} ${shards === 1 ? "shard" : "shards"}`,
    remedy: `set batch_size to ${videos} or less, or add shards to the list`,
  });
}

/** Memory of a used batch: of rgb, then of audio. */
export type BatchMemory = readonly [ArrayBuffer, ArrayBuffer];

export function memoryOf({ rgb, audio }: RaggedBatch): BatchMemory {
  return [rgb.buffer as ArrayBuffer, audio.buffer as ArrayBuffer];
}

/** Concatenates videos into batches. Their bytes are copied once, into memory of earlier batches if it was released. */
export class BatchBuilder {
  readonly #pools = [new BufferPool(), new BufferPool()] as const;
  readonly #rgb = new Concatenation(this.#pools[0]);
  readonly #audio = new Concatenation(this.#pools[1]);
  #ids: string[] = [];
  #frameCounts: number[] = [];
  #labels: Int32Array[] = [];

  /** Number of videos in the current batch. */
  get size(): number {
    return this.#ids.length;
  }

  /** Appends a copy of the video; its own memory can be reused immediately. */
  add({ id, frames, rgb, audio, labels }: Video): void {
    this.#ids.push(id);
    this.#frameCounts.push(frames);
    this.#labels.push(labels);
    this.#rgb.append(rgb);
    this.#audio.append(audio);
  }

  /** Returns the batch of all videos added so far, and starts the next one. */
  take(): RaggedBatch {
    const batch = {
      ids: this.#ids,
      frameCounts: Int32Array.from(this.#frameCounts),
      rgb: this.#rgb.take(),
      audio: this.#audio.take(),
      labels: this.#labels,
    };
    this.#ids = [];
    this.#frameCounts = [];
    this.#labels = [];
    return batch;
  }

  /** Discards the videos added so far. */
  clear(): void {
    this.take();
  }

  /** Takes back the memory of a used batch. */
  release(memory: BatchMemory): void {
    for (const [i, pool] of this.#pools.entries()) pool.release(memory[i as 0 | 1]);
  }
}
