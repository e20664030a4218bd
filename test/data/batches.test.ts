import assert from "node:assert/strict";
import { test } from "node:test";
import { BatchBuilder } from "../../src/data/batch-builder.js";
import { assembleBatches } from "../../src/data/batches.js";
import type { Block } from "../../src/data/block.js";
import type { ReaderPool } from "../../src/data/reader-pool.js";
import { VideoMemory } from "../../src/data/video-memory.js";
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
      const block: Block = { videos, fileBytes: 1, last: true, slab: new ArrayBuffer(0), leftOut: [] };
      return { next: () => Promise.resolve(block), giveBack: () => void open-- };
    },
    openShards: () => [],
    rest: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
  return { pool, opened, openAtOnce: () => most };
}

// A slot opens its next shard before the last block of its current one is given back.
test("each shard is opened once: in sequential order the one at hand and one ahead a reader, eight in shuffled order", async () => {
  const shards = Array.from({ length: 30 }, (_, i) => `shard${i}`);
  for (const [order, readers, most] of [
    ["sequential", 1, 3],
    ["sequential", 3, 5],
    ["shuffled", 3, 9],
  ] as const) {
    const { pool, opened, openAtOnce } = countingPool();
    const space = { builder: new BatchBuilder(), waiting: new VideoMemory() };
    let videos = 0;
    const options = streamOptions({ shards, order, readers, batchSize: 4 });
    for await (const { batch } of assembleBatches(options, pool, space, () => undefined)) videos += batch.ids.length;
    assert.equal(videos, 30);
    assert.deepEqual(opened.toSorted(), shards.toSorted());
    assert.equal(openAtOnce(), most, `${order}, ${readers} readers`);
  }
});
