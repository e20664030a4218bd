import { NextvladError } from "../base/errors.js";
import { BufferPool, Concatenation, type VideoPool } from "./buffer-pool.js";
import type { SkippedRecord } from "./corrupt-records.js";
import { EpochVideos, type StreamOptions } from "./epoch-videos.js";
import { drawMixes, type Mix, mixVideos } from "./mixup.js";
import type { ReaderPool } from "./reader-pool.js";
import { ownRange, ownVideos } from "./share.js";
import type { RaggedBatch, Video } from "./video.js";

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

/**
 * Assembles an epoch's batches in memory from `space`; they are a pure function of the options except `readers`. Calls `onSkipped` with the records that the
 * readers skipped, before the batch that follows them in the order. If ranks divide each batch, a batch has this rank's videos only; if they take batches in turn,
 * other ranks' batches have no features, and no videos if this rank does not read them.
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
  const { batchSize, dropLast, skipBatches = 0, share, mixup, seed } = options;
  const skipVideos = skipBatches * batchSize;
  const isOwn = share === undefined ? () => true : ownVideos(share, batchSize, skipBatches);
  const totalBytes = Math.max(
    1,
    options.shards.reduce((sum, { bytes }) => sum + bytes, 0),
  );
  const { limitVideos = Number.POSITIVE_INFINITY } = options;
  let videos = 0;
  let doneBytes = 0;
  for await (const { video, fileBytes } of new EpochVideos(options, { pool, videos: space.videos }, onSkipped)) {
    const index = videos++;
    doneBytes += fileBytes;
    if (index < skipVideos) continue;
    // A partner may be a video of another rank.
    if (video !== null && (mixup !== undefined || share?.divides !== "each batch" || isOwn(index)))
      builder.add(video, mixup !== undefined || isOwn(index));
    if (videos % batchSize === 0) {
      const batch =
        mixup === undefined
          ? builder.take()
          : builder.takeMixed(drawMixes(batchSize, mixup, seed, videos / batchSize - 1), ownRange(share, batchSize));
      yield { batch, fraction: Math.min(1, Math.max(doneBytes / totalBytes, videos / limitVideos)) };
    }
    if (videos === limitVideos) break;
  }
  const batches = dropLast ? Math.floor(videos / batchSize) : Math.ceil(videos / batchSize);
  if (skipBatches > batches) throw tooManySkipped(skipBatches, batches, dropLast);
  if (dropLast && videos < batchSize) throw tooFew(videos, batchSize, options.shards.length);
  if (videos > skipVideos && videos % batchSize > 0 && !dropLast) yield { batch: builder.take(), fraction: 1 };
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
  #rated: Int32Array[] = [];

  /** Appends a copy of the video, with or without its features; its own memory can be reused immediately. */
  add({ id, frames, rgb, audio, labels, rated }: Video, withFeatures = true): void {
    this.#ids.push(id);
    this.#frameCounts.push(frames);
    this.#labels.push(labels);
    if (rated !== undefined) this.#rated.push(rated);
    if (!withFeatures) return;
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
      rated: this.#rated.length === 0 ? undefined : this.#rated,
    };
    this.#ids = [];
    this.#frameCounts = [];
    this.#labels = [];
    this.#rated = [];
    return batch;
  }

  /** Like `take`, but returns some of the videos, each mixed with another one. */
  takeMixed(mixes: readonly Mix[], range: { readonly first: number; readonly count: number }): RaggedBatch {
    const whole = this.take();
    // A buffer of a pool has room for its longest batch so far.
    const mixed = mixVideos(whole, mixes, range, (modality) => new Uint8Array(this.#pools[modality === "rgb" ? 0 : 1].acquire()));
    this.release(memoryOf(whole));
    return mixed;
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
