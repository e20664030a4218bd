import { type CorruptPolicy, DamageSieve, type LeftOut } from "./damage-sieve.js";
import { readShard } from "./shard-reader.js";
import { PieceSlab, type SlabPool } from "./slab.js";
import type { Video } from "./video.js";
import type { VideoShape } from "./video-check.js";

/** Consecutive videos of one shard, which a reader sends together. */
export interface Block {
  readonly videos: readonly Video[];
  /** Bytes of the shard's file that these videos account for. */
  readonly fileBytes: number;
  /** Whether this is the shard's last block. */
  readonly last: boolean;
  /** Memory that holds nearly all of the videos' bytes; to be given back after use. */
  readonly slab: ArrayBuffer;
  /** Records skipped since the shard's previous block. */
  readonly leftOut: readonly LeftOut[];
}

/** Reads a shard's blocks, one at a time. `next` must not be called after the last block. */
export interface BlockSource {
  next(): Promise<Block>;
  /** Returns a block's memory to the reader, which then reads one more block ahead. The block's bytes must not be used afterwards. */
  giveBack(block: Block): void;
}

/** Videos per block, except for the last block of a shard. A constant, because the shuffled order depends on it. */
export const BLOCK_VIDEOS = 16;

/** Options for reading a shard in blocks. */
export interface BlockOptions extends VideoShape {
  /** Defaults to "error". */
  readonly onCorrupt?: CorruptPolicy;
}

/** Reads a shard's videos in blocks, with their bytes in slabs from `pool`. Throws what `readShard` throws. */
export async function* readBlocks(path: string, options: BlockOptions, pool: SlabPool): AsyncGenerator<Block, void> {
  const sieve = new DamageSieve(options.onCorrupt ?? "error");
  const slab = new PieceSlab(pool);
  let videos: Video[] = [];
  let before = 0;
  let position = 0;
  const takeBlock = (last: boolean): Block => {
    const block = { videos, fileBytes: position - before, last, slab: slab.take(), leftOut: sieve.take() };
    videos = [];
    before = position;
    return block;
  };
  // A full block is held back until the next video shows that it is not the last. Its slab is already closed, so that video's bytes go into the next slab.
  let full: Block | null = null;
  for await (const { video, filePosition } of readShard(path, options, { sieve, allocate: slab.allocate, undo: slab.undo })) {
    if (full !== null) yield full;
    slab.keep();
    videos.push(video);
    position = filePosition;
    full = videos.length === BLOCK_VIDEOS ? takeBlock(false) : null;
  }
  yield full === null ? takeBlock(true) : { ...full, last: true, leftOut: [...full.leftOut, ...sieve.take()] };
}
