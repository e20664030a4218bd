import assert from "node:assert/strict";
import { test } from "node:test";
import { assembleBatches, BatchBuilder } from "../../src/data/batches.js";
import { VideoPool } from "../../src/data/buffer-pool.js";
import type { ReaderPool } from "../../src/data/reader-pool.js";
import type { Block } from "../../src/data/shard-reader.js";
import { randomVideo, streamOptions } from "../helpers/shards.js";

/** Returns a pool whose shards hold one block of one video each, and counts how many shards are open at a time. */
function countingPool(): { readonly pool: ReaderPool; readonly opened: string[]; readonly openAtOnce: () => number } {
  const opened: string[] = [];
  let [open, most] = [0, 0];
  const pool: ReaderPool = {
    readers: 1,
    open(path) {
      opened.push(path);
      most = Math.max(most, ++open);
      const videos = [randomVideo(opened.length)];
      const block: Block = { videos, fileBytes: 1, last: true, buffer: new ArrayBuffer(0), skipped: [] };
      return { next: () => Promise.resolve(block), release: () => void open-- };
    },
    index: () => Promise.reject(new Error("nothing is skipped")),
    bytesRead: () => 0,
    takeOpened: () => [],
    openShards: () => [],
    closeShards: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
  return { pool, opened, openAtOnce: () => most };
}

// A slot opens its next shard before the last block of its current one is released.
test("each shard is opened once; open at a time are the current one and one per reader in sequential order, eight in shuffled order", async () => {
  const shards = Array.from({ length: 30 }, (_, i) => `shard${i}`);
  for (const [order, readers, most] of [
    ["sequential", 1, 3],
    ["sequential", 3, 5],
    ["shuffled", 3, 9],
  ] as const) {
    const { pool, opened, openAtOnce } = countingPool();
    const space = { builder: new BatchBuilder(), videos: new VideoPool() };
    let videos = 0;
    const options = streamOptions({ shards, order, readers, batchSize: 4 });
    for await (const { batch } of assembleBatches(options, pool, space, () => undefined)) videos += batch.ids.length;
    assert.equal(videos, 30);
    assert.deepEqual(opened.toSorted(), shards.toSorted());
    assert.equal(openAtOnce(), most, `${order}, ${readers} readers`);
  }
});
