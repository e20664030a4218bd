import { type CorruptPolicy, DamageSieve, type LeftOut } from "./damage-sieve.js";
import { readShard } from "./shard.js";
import { PieceSlab, type SlabPool } from "./slab.js";
import type { Video } from "./video.js";
import type { VideoShape } from "./video-check.js";

/** Videos that travel together from a reader: consecutive ones of one shard. */
export interface Block {
  readonly videos: readonly Video[];
  /** Bytes of the shard's file that these videos stand for. */
  readonly fileBytes: number;
  /** Whether the shard ends here. */
  readonly last: boolean;
  /** The memory of nearly all of the videos' bytes, to be given back. */
  readonly slab: ArrayBuffer;
  /** What was left out of the shard since its block before. */
  readonly leftOut: readonly LeftOut[];
}

/** A shard's blocks, one at a time; none may be asked for after the last. */
export interface BlockSource {
  next(): Promise<Block>;
  /** Takes back a block whose videos' bytes nobody reads any more; only then one more is read ahead. */
  giveBack(block: Block): void;
}

/** Videos in a block, but for the last of a shard. A constant: the shuffled order depends on it. */
export const BLOCK_VIDEOS = 16;

/** How shards are read by blocks. */
export interface BlockOptions extends VideoShape {
  /** By default "error". */
  readonly onCorrupt?: CorruptPolicy;
}

/** Reads a shard's videos by blocks, their bytes into slabs of the pool. Throws what `readShard` throws. */
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
  // A full block waits for one more video to be known not to be the last, but its slab is closed: that video's bytes are no longer its own.
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
