import type { Source } from "./order.js";
import type { ReaderPool } from "./reader-pool.js";
import type { Shard } from "./shard.js";
import type { Block, BlockOptions } from "./shard-reader.js";

/** Maximum size of the shards on disk, and of their videos in memory, which is larger if they are compressed. */
const MAX_BYTES = 2 ** 28;

/** Whether shards are small enough to be kept. */
export function isKept(shards: readonly Shard[]): boolean {
  return shards.reduce((sum, { bytes }) => sum + bytes, 0) <= MAX_BYTES;
}

/**
 * The blocks of a small data set, kept in memory for later epochs: with shards of one clip each, as AudioSet's, opening files takes more processor time than
 * a training step.
 */
export class BlockCache {
  readonly #blocks = new Map<string, readonly Block[]>();
  #bytes = 0;
  #key = "";
  #shards: readonly Shard[] = [];

  /** Returns readers that read each of these shards once. Returns `pool` itself if the shards are too large to be kept. */
  readersOf(shards: readonly Shard[], pool: ReaderPool): ReaderPool {
    if (!isKept(shards)) return pool;
    return { ...pool, open: (path, reader, options) => this.#open(path, shards, options, () => pool.open(path, reader, options)) };
  }

  #open(path: string, shards: readonly Shard[], options: BlockOptions, open: () => Source<Block>): Source<Block> {
    if (options.records !== undefined) return open();
    this.#clearIfChanged(shards, options);
    const kept = this.#blocks.get(path);
    return kept === undefined ? this.#keep(path, open()) : replay(kept);
  }

  /** Forgets blocks of other files, of changed files, and of other options. */
  #clearIfChanged(shards: readonly Shard[], options: BlockOptions): void {
    if (shards === this.#shards) return;
    this.#shards = shards;
    const key = JSON.stringify([options, shards.map(({ path, bytes, modifiedMs }) => [path, bytes, modifiedMs])]);
    if (key === this.#key) return;
    this.#blocks.clear();
    this.#bytes = 0;
    this.#key = key;
  }

  /** Returns a source that keeps the shard's blocks once it has ended. */
  #keep(path: string, { next, release }: Source<Block>): Source<Block> {
    const blocks: Block[] = [];
    const key = this.#key;
    return {
      next: async () => {
        const block = await next();
        if (key !== this.#key || this.#bytes >= MAX_BYTES) return block;
        for (const { rgb, audio } of block.videos) this.#bytes += rgb.length + audio.length;
        blocks.push(copyOf(block));
        if (block.last) this.#blocks.set(path, blocks);
        return block;
      },
      release,
    };
  }
}

/** Returns a copy in memory of its own: a block's buffer may be much larger than its videos. */
function copyOf(block: Block): Block {
  const videos = block.videos.map((video) => ({ ...video, rgb: video.rgb.slice(), audio: video.audio.slice() }));
  return { ...block, videos, buffer: new ArrayBuffer(0) };
}

function replay(blocks: readonly Block[]): Source<Block> {
  let next = 0;
  return { next: async () => blocks[next++] as Block, release: () => undefined };
}
