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
}

/** A shard's blocks, one at a time; none may be asked for after the last. */
export interface BlockSource {
  next(): Promise<Block>;
  /** Takes back a block whose videos' bytes nobody reads any more; only then one more is read ahead. */
  giveBack(block: Block): void;
}

/** Videos in a block, but for the last of a shard. A constant: the shuffled order depends on it. */
export const BLOCK_VIDEOS = 16;

/** Reads a shard's videos by blocks, their bytes into slabs of the pool. Throws what `readShard` throws. */
export async function* readBlocks(path: string, shape: VideoShape, pool: SlabPool): AsyncGenerator<Block, void> {
  const slab = new PieceSlab(pool);
  let videos: Video[] = [];
  let before = 0;
  let position = 0;
  const takeBlock = (last: boolean): Block => {
    const block = { videos, fileBytes: position - before, last, slab: slab.take() };
    videos = [];
    before = position;
    return block;
  };
  // A full block waits for one more video to be known not to be the last, but its slab is closed: that video's bytes are no longer its own.
  let full: Block | null = null;
  for await (const { video, filePosition } of readShard(path, shape, slab.allocate)) {
    if (full !== null) yield full;
    videos.push(video);
    position = filePosition;
    full = videos.length === BLOCK_VIDEOS ? takeBlock(false) : null;
  }
  yield full === null ? takeBlock(true) : { ...full, last: true };
}
