import { type CorruptPolicy, DamageSieve, type LeftOut } from "./damage-sieve.js";
import { readShard } from "./shard.js";
import type { Video } from "./video.js";
import type { VideoShape } from "./video-check.js";

/** Videos that travel together from a reader: consecutive ones of one shard. */
export interface Block {
  readonly videos: readonly Video[];
  /** Bytes of the shard's file that these videos stand for. */
  readonly fileBytes: number;
  /** Whether the shard ends here. */
  readonly last: boolean;
  /** What was left out of the shard since its block before. */
  readonly leftOut: readonly LeftOut[];
}

/** A shard's blocks, one at a time; none may be asked for after the last. */
export interface BlockSource {
  next(): Promise<Block>;
}

/** Videos in a block, but for the last of a shard. A constant: the shuffled order depends on it. */
export const BLOCK_VIDEOS = 16;

/** How shards are read by blocks. */
export interface BlockOptions extends VideoShape {
  /** By default "error". */
  readonly onCorrupt?: CorruptPolicy;
}

/** Reads a shard's videos by blocks. Throws what `readShard` throws. */
export async function* readBlocks(path: string, options: BlockOptions): AsyncGenerator<Block, void> {
  const sieve = new DamageSieve(options.onCorrupt ?? "error");
  let videos: Video[] = [];
  let before = 0;
  let position = 0;
  const takeBlock = (last: boolean): Block => {
    const block = { videos, fileBytes: position - before, last, leftOut: sieve.take() };
    videos = [];
    before = position;
    return block;
  };
  for await (const { video, filePosition } of readShard(path, options, sieve)) {
    // Only when one more video is there is a full block known not to be the last.
    if (videos.length === BLOCK_VIDEOS) yield takeBlock(false);
    videos.push(video);
    position = filePosition;
  }
  yield takeBlock(true);
}
