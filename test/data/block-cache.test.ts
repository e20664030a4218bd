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

/** Returns a pool whose shards consist of the blocks of `read`, all in one buffer, which is overwritten after each; `opened` lists the shards that were read. */
function countingPool(read: (path: string, buffer: ArrayBuffer, block: number) => Block): {
  readonly pool: ReaderPool;
  readonly opened: string[];
} {
  const opened: string[] = [];
  const pool = {
    readers: 1,
    open(path: string) {
      opened.push(path);
      const buffer = new ArrayBuffer(4);
      let blocks = 0;
      const release = (): void => void new Uint8Array(buffer).fill(255);
      return { next: async () => read(path, buffer, ++blocks), release };
    },
  };
  return { pool: pool as unknown as ReaderPool, opened };
}

const blockOf = (video: object, buffer: ArrayBuffer, last: boolean): Block =>
  ({ videos: [{ frames: 1, labels: Int32Array.of(1), ...video }], fileBytes: 50, last, buffer, skipped: [] }) as unknown as Block;

/** Returns a pool whose shards have two blocks of one video of one frame. */
const smallPool = () =>
  countingPool((path, buffer, block) => {
    const rgb = new Uint8Array(buffer).fill(block);
    return blockOf({ id: `${path}${block}`, rgb, audio: new Uint8Array(0) }, buffer, block === 2);
  });

/** Returns a pool whose shards have one block of one video of 64 MiB, which takes no memory. */
const largePool = () => {
  const bytes = (length: number) => ({ length, slice: () => bytes(length), join: () => `${length} bytes` });
  return countingPool((path, buffer) => blockOf({ id: path, rgb: bytes(2 ** 25), audio: bytes(2 ** 25) }, buffer, true));
};

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
    const [cache, { pool, opened }] = [new BlockCache(), smallPool()];
    for (let i = 0; i < 3; i++) assert.deepEqual(await epoch(cache, [shard("a"), shard("b")], pool), EXPECTED);
    assert.deepEqual(opened, ["a", "b"]);
  });

  test("are read again if a file has changed, and with other options", async () => {
    const [cache, { pool, opened }] = [new BlockCache(), smallPool()];
    await epoch(cache, [shard("a"), shard("b")], pool);
    await epoch(cache, [shard("a"), shard("b", 100, 2)], pool);
    await epoch(cache, [shard("a"), shard("b", 101, 2)], pool);
    await epoch(cache, [shard("a"), shard("b", 101, 2)], pool, { ...OPTIONS, maxFrames: 5 });
    assert.deepEqual(opened, ["a", "b", "a", "b", "a", "b", "a", "b"]);
  });

  test("are not kept if only some records of a shard are read", async () => {
    const [cache, { pool, opened }] = [new BlockCache(), smallPool()];
    for (let i = 0; i < 2; i++) await epoch(cache, [shard("a")], pool, { ...OPTIONS, records: { from: 1 } });
    await epoch(cache, [shard("a")], pool);
    assert.deepEqual(opened, ["a", "a", "a"]);
  });

  test("are not kept beyond 256 MiB on disk", async () => {
    const [cache, { pool }] = [new BlockCache(), smallPool()];
    assert.equal(cache.readersOf([shard("a", 2 ** 28), shard("b", 1)], pool), pool);
    assert.notEqual(cache.readersOf([shard("a", 2 ** 28 - 1), shard("b", 1)], pool), pool);
  });

  test("are not kept beyond 256 MiB in memory, of these files", async () => {
    const [cache, { pool, opened }] = [new BlockCache(), largePool()];
    for (const modifiedMs of [1, 2]) {
      const shards = ["a", "b", "c", "d", "e", "f"].map((path) => shard(path, 100, modifiedMs));
      opened.length = 0;
      for (let i = 0; i < 2; i++) await epoch(cache, shards, pool);
      // Four shards fit.
      assert.deepEqual(opened, ["a", "b", "c", "d", "e", "f", "e", "f"]);
    }
  });
});
