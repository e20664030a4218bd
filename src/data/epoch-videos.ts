import { NextvladError } from "../base/errors.js";
import { createRandom } from "../base/random.js";
import type { VideoPool } from "./buffer-pool.js";
import { drawRepeats, type RepeatFactors } from "./class-balance.js";
import type { SkippedRecord } from "./corrupt-records.js";
import type { Mixup } from "./mixup.js";
import { mergeShards, OPEN_SHARDS, type Order, orderShards, ShuffleBuffer, type Source } from "./order.js";
import type { ReaderPool } from "./reader-pool.js";
import { clipsOf } from "./segments.js";
import type { RecordPosition, Shard } from "./shard.js";
import { BLOCK_VIDEOS, type Block, type BlockOptions, type RecordExtent, type ShardIndex } from "./shard-reader.js";
import { ownVideos, type Share } from "./share.js";
import type { Video } from "./video.js";

/** Options of one epoch over a list of shards. */
export interface StreamOptions extends Omit<BlockOptions, "records"> {
  readonly shards: readonly Shard[];
  readonly order: Order;
  readonly seed: number;
  /** Of the order and the repetitions. */
  readonly epoch: number;
  /** Videos per batch. */
  readonly batchSize: number;
  /** Whether to drop the last batch if it is not full. */
  readonly dropLast: boolean;
  /** Capacity of the shuffle buffer, in videos; ignored in sequential order. */
  readonly shuffleBuffer: number;
  /** The part of this rank if several read the epoch; by default, it is the only one. */
  readonly share?: Share | undefined;
  /** Maximum number of videos, the first ones in the order; by default, all. */
  readonly limitVideos?: number | undefined;
  /** Repeats videos: see `drawRepeats`. By default, an epoch has each video once. */
  readonly repeatFactors?: RepeatFactors | undefined;
  /** How each video is mixed with another of its full batch: see `mixVideos`. By default, none is. */
  readonly mixup?: Mixup | undefined;
  /** Number of reader threads, at least 1; the order does not depend on it. */
  readonly readers: number;
  /** Number of batches to skip at the start: those that an earlier run processed. The rest of the order is unchanged. */
  readonly skipBatches?: number;
  /**
   * The first record of each shard that the earlier run skipped as corrupt, at least in the batches to skip. Up to there, videos of these batches are skipped by
   * their record headers. If undefined, as it is unknown, all videos are read, unless `onCorrupt` is "error".
   */
  readonly firstCorrupt?: readonly RecordPosition[] | undefined;
}

/** A video of the epoch, and its share of the bytes on disk. */
export interface EpochVideo {
  /** Valid until the next video is requested; null for the videos of the batches to skip, and of other ranks if this one reads only its own. */
  readonly video: Video | null;
  readonly fileBytes: number;
}

/** A video that has not left the shuffle buffer yet. */
interface PendingVideo {
  /** Null while only its record header was read. */
  video: Video | null;
  /** Whether the video is in memory of its own; else it is in its block's. */
  isCopy: boolean;
  readonly fileBytes: number;
  /** If only its header was read: the position of its shard in the order of the epoch, and its record in the shard. Null if it was read. */
  readonly unreadAt: { readonly position: number; readonly record: number; readonly extent: RecordExtent | null } | null;
}

/** The next video in the order of the epoch, and those that were merged before and come after it. */
interface OrderedVideo {
  readonly pending: PendingVideo;
  readonly others: () => readonly PendingVideo[];
}

/** Consecutive videos of a shard. */
interface EpochBlock {
  readonly videos: readonly PendingVideo[];
  readonly last: boolean;
  /** The block that was read; null if only record headers were. */
  readonly block: Block | null;
}

/**
 * Yields an epoch's videos in order. Calls `onSkipped` with the records that the readers skipped, before the video that follows them in the order.
 *
 * To skip batches, it merges and shuffles the shards as in the run that processed them, but reads only record headers, up to the last block whose videos were
 * all in those batches or in the shuffle buffer after them. It reads the videos in the buffer at that point when the first of them is needed.
 *
 * A rank that reads only its own videos reads the record headers of all, and its videos of each batch when the batch is due. It reads all videos of shards where it
 * would have to read a record's predecessors too (compressed ones and pickles), and if corrupt records are skipped, which headers do not show.
 *
 * With `segments`, the videos of the epoch are the segments of those in the shards. Record headers do not show how many there are, so all records are read.
 */
export class EpochVideos {
  readonly #options: StreamOptions;
  readonly #pool: ReaderPool;
  readonly #videos: VideoPool;
  readonly #onSkipped: (skipped: readonly SkippedRecord[]) => void;
  readonly #shards: readonly Shard[];
  readonly #reading: BlockOptions;
  /** Number of videos to skip. */
  readonly #skipVideos: number;
  /** First record of a shard that must be read, by path: headers do not show that a record is corrupt. Null: read everything. */
  readonly #firstCorrupt: ReadonlyMap<string, number> | null;
  /** Whether a video is to be read, by its index, if this rank reads only its own; null if it reads all. */
  readonly #isOwn: ((video: number) => boolean) | null;
  /** Starts reading the videos of the shards that are open and were read by their headers so far. */
  readonly #starts = new Set<() => void>();
  /** The index of each shard in the list, by path, if videos are repeated. */
  readonly #indices: ReadonlyMap<string, number>;
  /** Number of videos in the blocks so far. */
  #merged = 0;

  constructor(
    options: StreamOptions,
    { pool, videos }: { readonly pool: ReaderPool; readonly videos: VideoPool },
    onSkipped: (skipped: readonly SkippedRecord[]) => void,
  ) {
    this.#options = options;
    this.#pool = pool;
    this.#videos = videos;
    this.#onSkipped = onSkipped;
    this.#shards = orderShards(options.shards, options.order, options.seed, options.epoch);
    this.#reading = blockOptions(options);
    this.#indices = new Map(options.repeatFactors === undefined ? [] : options.shards.map(({ path }, index) => [path, index]));
    this.#skipVideos = (options.skipBatches ?? 0) * options.batchSize;
    this.#firstCorrupt = firstCorrupt(options);
    const { share, batchSize, skipBatches = 0, onCorrupt = "error", segments } = options;
    this.#isOwn = share?.readsOwn && onCorrupt === "error" && segments === undefined ? ownVideos(share, batchSize, skipBatches) : null;
  }

  [Symbol.asyncIterator](): AsyncGenerator<EpochVideo, void> {
    const ordered = this.#options.order === "sequential" ? this.#sequential() : this.#shuffled();
    return this.#isOwn === null ? this.#deliverAll(ordered) : this.#deliverOwn(ordered, this.#isOwn);
  }

  async *#sequential(): AsyncGenerator<OrderedVideo, void> {
    const open = openAhead(this.#shards.length, this.#options.readers, (position) => this.#open(position, position));
    for await (const { videos } of this.#merge(1, open)) {
      for (const pending of videos) yield { pending, others: () => [] };
    }
  }

  async *#shuffled(): AsyncGenerator<OrderedVideo, void> {
    const { shuffleBuffer, seed, epoch } = this.#options;
    const buffer = new ShuffleBuffer<PendingVideo>(shuffleBuffer, createRandom(seed, "videos", epoch));
    for await (const { videos } of this.#merge(OPEN_SHARDS, (position, slot) => this.#open(position, slot))) {
      for (const pending of videos) {
        this.#copy(pending);
        const leaving = buffer.exchange(pending);
        if (leaving !== undefined) yield { pending: leaving, others: () => buffer.items };
      }
    }
    const rest = buffer.drain();
    for (const [i, pending] of rest.entries()) yield { pending, others: () => rest.slice(i + 1) };
  }

  /** Moves a video to memory of its own, so that it outlives its block. */
  #copy(pending: PendingVideo): void {
    if (pending.video !== null && !pending.isCopy) this.#setCopy(pending, pending.video);
  }

  #setCopy(pending: PendingVideo, video: Video): void {
    pending.video = this.#videos.copy(video);
    pending.isCopy = true;
  }

  async *#merge(slots: number, open: (position: number, slot: number) => Source<EpochBlock>): AsyncGenerator<EpochBlock, void> {
    for await (const epochBlock of mergeShards(this.#shards.length, slots, open)) {
      this.#merged += epochBlock.videos.length;
      if (epochBlock.block !== null) this.#onSkipped(epochBlock.block.skipped);
      yield epochBlock;
    }
  }

  /** Yields the videos, null for those to skip. If one is not read yet, reads it and the others that were merged before. */
  async *#deliverAll(ordered: AsyncIterable<OrderedVideo>): AsyncGenerator<EpochVideo, void> {
    let delivered = 0;
    for await (const { pending, others } of ordered) {
      const isSkipped = delivered++ < this.#skipVideos;
      if (!isSkipped && pending.video === null) await this.#readUnread([pending, ...others()]);
      yield { video: isSkipped ? null : pending.video, fileBytes: pending.fileBytes };
      this.#release(pending);
    }
  }

  /** Yields the videos, null for those to skip and for other ranks'. Reads those of a batch together. */
  async *#deliverOwn(ordered: AsyncIterable<OrderedVideo>, isOwn: (video: number) => boolean): AsyncGenerator<EpochVideo, void> {
    let first = 0;
    for await (const batch of this.#batches(ordered)) {
      const isWanted = batch.map((_, i) => first + i >= this.#skipVideos && isOwn(first + i));
      await this.#readUnread(batch.filter((_, i) => isWanted[i]));
      for (const [i, pending] of batch.entries()) {
        yield { video: isWanted[i] ? pending.video : null, fileBytes: pending.fileBytes };
        this.#release(pending);
      }
      first += batch.length;
    }
  }

  async *#batches(ordered: AsyncIterable<OrderedVideo>): AsyncGenerator<readonly PendingVideo[], void> {
    let batch: PendingVideo[] = [];
    for await (const { pending } of ordered) {
      this.#copy(pending);
      batch.push(pending);
      if (batch.length < this.#options.batchSize) continue;
      yield batch;
      batch = [];
    }
    yield batch;
  }

  #release({ video, isCopy }: PendingVideo): void {
    if (video !== null && isCopy) this.#videos.release(video);
  }

  /** Whether only the record headers of the next block, of any shard, are needed: if its videos are in the batches to skip or in the shuffle buffer after them. */
  #isNextBlockPast(): boolean {
    if (this.#options.segments !== undefined) return false;
    if (this.#isOwn !== null) return true;
    const buffered = this.#options.order === "sequential" ? 0 : this.#options.shuffleBuffer;
    return this.#firstCorrupt !== null && this.#skipVideos > 0 && this.#merged + BLOCK_VIDEOS <= this.#skipVideos + buffered;
  }

  /** Opens a shard: as long as its blocks are past, it is read by its record headers. */
  #open(position: number, reader: number): Source<EpochBlock> {
    const { path } = this.#shards[position] as Shard;
    const index = this.#isNextBlockPast() ? this.#pool.index(path, reader, this.#reading) : null;
    // A rejection is handled where the index is awaited; until then, it must not count as unhandled.
    index?.catch(() => undefined);
    let source = index === null ? this.#pool.open(path, reader, this.#reading) : null;
    let record = 0;
    const start = (): Source<Block> => {
      this.#starts.delete(start);
      source ??= this.#pool.open(path, reader, { ...this.#reading, records: { from: record } });
      return source;
    };
    if (index !== null) this.#starts.add(start);
    return {
      next: async () => {
        if (source === null && index !== null && this.#isNextBlockPast()) {
          const found = await index;
          const isReadWhole = this.#isOwn !== null && !found.isSeekable;
          const block = isReadWhole ? null : headerBlock(position, record, found, this.#firstCorrupt?.get(path));
          if (block?.last) this.#starts.delete(start);
          if (block !== null) {
            const from = record;
            record += block.videos.length;
            return { ...block, videos: this.#repeat(block.videos, path, from) };
          }
        }
        // All at once, so that they are read in parallel.
        if (!this.#isNextBlockPast()) for (const startOther of this.#starts) startOther();
        const block = await start().next();
        const fileBytes = block.fileBytes / block.videos.length;
        const videos = block.videos.flatMap((video) => this.#pendingClips(video, fileBytes));
        const from = record;
        // Up to the first corrupt record, where reading starts at the latest, the index of a record is that of its video.
        record += videos.length;
        return { videos: this.#repeat(videos, path, from), last: block.last, block };
      },
      release: ({ block }) => {
        if (block !== null) source?.release(block);
      },
    };
  }

  /** Returns a video, or with `segments` its clips. */
  #pendingClips(video: Video, fileBytes: number): readonly PendingVideo[] {
    const { segments } = this.#options;
    const clips = segments === undefined ? [video] : clipsOf(video, segments);
    return clips.map((clip) => ({ video: clip, isCopy: false, fileBytes: fileBytes / clips.length, unreadAt: null }));
  }

  /** Returns consecutive videos of a shard, from `first` on, each as often as the epoch has it. */
  #repeat(videos: readonly PendingVideo[], path: string, first: number): readonly PendingVideo[] {
    const { repeatFactors, seed, epoch } = this.#options;
    const factors = repeatFactors?.get(path);
    if (factors === undefined) return videos;
    return videos.flatMap((pending, i) => {
      const repeats = drawRepeats(factors[first + i] ?? 1, seed, epoch, this.#indices.get(path) ?? 0, first + i);
      return Array.from({ length: repeats }, () => ({ ...pending, fileBytes: pending.fileBytes / repeats }));
    });
  }

  /** Reads the videos of which only the headers were read, each shard once. */
  async #readUnread(videos: readonly PendingVideo[]): Promise<void> {
    const unread = new Map<number, PendingVideo[]>();
    for (const pending of videos) {
      if (pending.video !== null || pending.unreadAt === null) continue;
      const ofShard = unread.get(pending.unreadAt.position) ?? [];
      ofShard.push(pending);
      unread.set(pending.unreadAt.position, ofShard);
    }
    const waiting = unread.entries();
    const readNext = async (_: unknown, reader: number): Promise<void> => {
      for (const [position, pending] of waiting) await this.#readRecords(position, pending, reader);
    };
    await Promise.all(Array.from({ length: OPEN_SHARDS }, readNext));
  }

  /** Reads records of a shard. They are not corrupt, because the earlier run read them. */
  async #readRecords(position: number, unread: readonly PendingVideo[], reader: number): Promise<void> {
    const { path } = this.#shards[position] as Shard;
    const recordOf = ({ unreadAt }: PendingVideo): number => unreadAt?.record ?? 0;
    const inOrder = unread.toSorted((a, b) => recordOf(a) - recordOf(b));
    const records = { only: new Map(inOrder.map((pending) => [recordOf(pending), pending.unreadAt?.extent ?? null])) };
    const source = this.#pool.open(path, reader, { ...this.#reading, onCorrupt: "error", records });
    for (let isLast = false; !isLast; ) {
      const block = await source.next();
      for (const video of block.videos) {
        const [next] = inOrder;
        // A repeated video is read once.
        while (next !== undefined && inOrder[0] !== undefined && recordOf(inOrder[0]) === recordOf(next)) {
          this.#setCopy(inOrder.shift() as PendingVideo, video);
        }
      }
      isLast = block.last;
      source.release(block);
    }
    if (inOrder.length > 0) {
      throw new NextvladError("BAD_FORMAT", "the shard was truncated while it was being read", {
        file: path,
        remedy: "run the command again",
      });
    }
  }
}

/** Returns the first corrupt record of each shard, by path; null if it is unknown. */
function firstCorrupt({ shards, firstCorrupt: positions, onCorrupt = "error" }: StreamOptions): Map<string, number> | null {
  if (positions === undefined) return onCorrupt === "error" ? new Map() : null;
  const first = new Map<string, number>();
  for (const { shard, record } of positions) {
    const path = shards[shard]?.path ?? "";
    first.set(path, Math.min(record, first.get(path) ?? record));
  }
  return first;
}

/**
 * Returns the block that starts with `record`, known by its headers only, as `readBlocks` forms it. Returns null if it must be read: it contains the first
 * corrupt record, or it is unknown whether it is the last.
 */
function headerBlock(
  position: number,
  record: number,
  { ends, isComplete, isSeekable }: ShardIndex,
  firstCorrupt = ends.length,
): EpochBlock | null {
  const valid = Math.min(ends.length, firstCorrupt);
  const end = Math.min(record + BLOCK_VIDEOS, valid);
  const last = end === valid;
  if (last && !(isComplete && valid === ends.length)) return null;
  const bytes = (ends[end - 1] ?? 0) - (ends[record - 1] ?? 0);
  const fileBytes = bytes / (end - record);
  const videos = Array.from({ length: end - record }, (_, i) => {
    const [begin, end] = [ends[record + i - 1] ?? 0, ends[record + i] ?? 0];
    const extent = isSeekable ? { offset: begin, bytes: end - begin } : null;
    return { video: null, isCopy: false, fileBytes, unreadAt: { position, record: record + i, extent } };
  });
  return { videos, last, block: null };
}

/** Returns the options that a reader thread needs. The list of shards is not among them: it may be long, and shards are opened by one message each. */
function blockOptions({
  maxFrames,
  featureNames,
  featureSizes,
  numClasses,
  labels,
  maxRecordBytes,
  segments,
  onCorrupt = "error",
}: StreamOptions): BlockOptions {
  return { maxFrames, featureNames, featureSizes, numClasses, labels, maxRecordBytes, segments, onCorrupt };
}

/**
 * Returns a function that opens the shard at a position. It also opens the next `readers` shards, one per thread, so that reading does not pause between
 * shards.
 */
function openAhead(
  count: number,
  readers: number,
  open: (position: number) => Source<EpochBlock>,
): (position: number) => Source<EpochBlock> {
  const opened: Source<EpochBlock>[] = [];
  let next = 0;
  return (position) => {
    for (; next < count && next <= position + readers; next++) opened.push(open(next));
    return opened.shift() as Source<EpochBlock>;
  };
}
