import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BlockCache } from "../../src/data/block-cache.js";
import type { ReaderPool } from "../../src/data/reader-pool.js";
import type { Shard } from "../../src/data/shard.js";
import type { Block, BlockOptions } from "../../src/data/shard-reader.js";

const OPTIONS = {
  maxFrames: 10,
  featureNames: ["rgb", "audio"],
  featureSizes: [4, 0],
  numClasses: 3,
  labels: "required",
} as unknown as BlockOptions;
const shard = (path: string, bytes = 100, modifiedMs = 1): Shard => ({ path, bytes, modifiedMs, endsCrc32c: null });

/** Returns a pool whose shards have two blocks of one video, in one buffer that is overwritten after each block; `opened` lists the shards that were read. */
function countingPool(frames = 1): { readonly pool: ReaderPool; readonly opened: string[] } {
  const opened: string[] = [];
  const pool = {
    readers: 1,
    open(path: string) {
      opened.push(path);
      const buffer = new ArrayBuffer(4 * frames);
      let blocks = 0;
      const next = async (): Promise<Block> => {
        const rgb = new Uint8Array(buffer).fill(++blocks);
        const video = { id: `${path}${blocks}`, frames, rgb, audio: new Uint8Array(0), labels: Int32Array.of(1) };
        return { videos: [video], fileBytes: 50, last: blocks === 2, buffer, skipped: [] } as unknown as Block;
      };
      return { next, release: () => void new Uint8Array(buffer).fill(255) };
    },
  };
  return { pool: pool as unknown as ReaderPool, opened };
}

/** Reads all blocks of the shards as an epoch does; returns IDs and bytes. */
async function epoch(cache: BlockCache, shards: readonly Shard[], pool: ReaderPool, options = OPTIONS): Promise<string[]> {
  const found: string[] = [];
  const readers = cache.readersOf(shards, pool);
  for (const { path } of shards) {
    const source = readers.open(path, 0, options);
    for (let isLast = false; !isLast; ) {
      const block = await source.next();
      for (const { id, rgb } of block.videos) found.push(`${id}: ${rgb.join(" ")}`);
      isLast = block.last;
      source.release(block);
    }
  }
  return found;
}

describe("the blocks of a small data set", () => {
  const EXPECTED = ["a1: 1 1 1 1", "a2: 2 2 2 2", "b1: 1 1 1 1", "b2: 2 2 2 2"];

  test("are read once, and are the same in later epochs", async () => {
    const [cache, { pool, opened }] = [new BlockCache(), countingPool()];
    for (let i = 0; i < 3; i++) assert.deepEqual(await epoch(cache, [shard("a"), shard("b")], pool), EXPECTED);
    assert.deepEqual(opened, ["a", "b"]);
  });

  test("are read again if a file has changed, and with other options", async () => {
    const [cache, { pool, opened }] = [new BlockCache(), countingPool()];
    await epoch(cache, [shard("a"), shard("b")], pool);
    await epoch(cache, [shard("a"), shard("b", 100, 2)], pool);
    await epoch(cache, [shard("a"), shard("b", 101, 2)], pool);
    await epoch(cache, [shard("a"), shard("b", 101, 2)], pool, { ...OPTIONS, maxFrames: 5 });
    assert.deepEqual(opened, ["a", "b", "a", "b", "a", "b", "a", "b"]);
  });

  test("are not kept if only some records of a shard are read", async () => {
    const [cache, { pool, opened }] = [new BlockCache(), countingPool()];
    for (let i = 0; i < 2; i++) await epoch(cache, [shard("a")], pool, { ...OPTIONS, records: { from: 1 } });
    await epoch(cache, [shard("a")], pool);
    assert.deepEqual(opened, ["a", "a", "a"]);
  });

  test("are not kept beyond 256 MiB, on disk or in memory", async () => {
    const [cache, small] = [new BlockCache(), countingPool()];
    assert.equal(cache.readersOf([shard("a", 2 ** 28), shard("b", 1)], small.pool), small.pool);
    const large = countingPool(2 ** 23 + 1);
    const shards = ["a", "b", "c", "d", "e", "f"].map((path) => shard(path));
    const ids = async (): Promise<void> => {
      const readers = cache.readersOf(shards, large.pool);
      for (const { path } of shards) {
        const source = readers.open(path, 0, OPTIONS);
        for (let isLast = false; !isLast; ) isLast = (await source.next()).last;
      }
    };
    await ids();
    await ids();
    // Each shard has 64 MiB: four fit.
    assert.deepEqual(large.opened, ["a", "b", "c", "d", "e", "f", "e", "f"]);
  });
});
