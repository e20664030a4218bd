import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import fc from "fast-check";
import { createRandom } from "../../src/base/random.js";
import { mergeShards, orderShards, ShuffleBuffer, type Source } from "../../src/data/order.js";
import type { Block } from "../../src/data/shard-reader.js";
import { collect } from "../helpers/shards.js";

const LIST = Array.from({ length: 30 }, (_, index) => ({ path: `shard${index}`, bytes: 1, modifiedMs: 1, endsCrc32c: null }));

describe("the order of shards", () => {
  test("is the list's in sequential order", () => {
    assert.deepEqual(orderShards(LIST, "sequential", 1, 2), LIST);
  });

  test("is a pure function of seed and epoch, and differs between epochs and seeds", () => {
    const first = orderShards(LIST, "shuffled", 1, 0);
    assert.deepEqual(first, orderShards(LIST, "shuffled", 1, 0));
    assert.deepEqual(first.map(({ path }) => path).sort(), LIST.map(({ path }) => path).sort());
    for (const other of [LIST, orderShards(LIST, "shuffled", 1, 1), orderShards(LIST, "shuffled", 2, 0)]) assert.notDeepEqual(first, other);
  });
});

/**
 * Returns a source of blocks that contain only their shard's position and their number, each after a delay. Each block must be released before the next is
 * requested.
 */
function blocksOf(position: number, count: number, delay: () => number): Source<Block> {
  let number = 0;
  let out: Block | null = null;
  return {
    async next() {
      await setTimeout(delay());
      assert.ok(number < count, "requested a block past the last");
      assert.equal(out, null, "requested a block before the previous one was released");
      out = { videos: [], fileBytes: position * 100 + number, last: ++number === count, buffer: new ArrayBuffer(0), skipped: [] };
      return out;
    },
    release(block) {
      assert.equal(block, out);
      out = null;
    },
  };
}

describe("merging shards", () => {
  const counts = [2, 1, 3, 1, 1, 2];

  test("takes blocks from the slots in turn, and opens the next shard in the slot whose shard ended", async () => {
    const opened: [number, number][] = [];
    const open = (position: number, slot: number) => {
      opened.push([position, slot]);
      return blocksOf(position, counts[position] as number, () => 0);
    };
    const order = await collect(mergeShards(counts.length, 3, open), ({ fileBytes }) => fileBytes);
    assert.deepEqual(order, [0, 100, 200, 1, 300, 201, 400, 500, 202, 501]);
    assert.deepEqual(opened, [
      [0, 0],
      [1, 1],
      [2, 2],
      [3, 1],
      [4, 0],
      [5, 1],
    ]);
  });

  test("works with one slot, with more slots than shards, and without shards", async () => {
    const merge = (slots: number, count = counts.length) =>
      collect(
        mergeShards(count, slots, (position) => blocksOf(position, counts[position] as number, () => 0)),
        ({ fileBytes }) => fileBytes,
      );
    assert.deepEqual(await merge(1), [0, 1, 100, 200, 201, 202, 300, 400, 500, 501]);
    assert.deepEqual(await merge(9), [0, 100, 200, 300, 400, 500, 1, 201, 501, 202]);
    assert.deepEqual(await merge(3, 0), []);
  });

  test("yields each block once, in an order that does not depend on timing", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 8 }),
        fc.integer({ min: 1, max: 4 }),
        fc.nat(),
        async (blocks, slots, seed) => {
          const random = createRandom(seed, "digits");
          const merge = (delay: () => number) =>
            collect(
              mergeShards(blocks.length, slots, (position) => blocksOf(position, blocks[position] as number, delay)),
              ({ fileBytes }) => fileBytes,
            );
          const order = await merge(() => 0);
          assert.deepEqual(await merge(() => random.below(3)), order);
          const all = blocks.flatMap((count, position) => Array.from({ length: count }, (_, number) => position * 100 + number));
          assert.deepEqual(
            [...order].sort((a, b) => a - b),
            all,
          );
        },
      ),
      { numRuns: 15 },
    );
  });
});

describe("the shuffle buffer", () => {
  function shuffle(items: readonly number[], capacity: number, seed: number): number[] {
    const buffer = new ShuffleBuffer<number>(capacity, createRandom(seed, "videos", 0));
    const left = items.map((item) => buffer.exchange(item)).filter((item) => item !== undefined);
    return [...left, ...buffer.drain()];
  }

  test("yields each item once, none earlier than its buffer allows", () => {
    fc.assert(
      fc.property(fc.nat(100), fc.integer({ min: 0, max: 40 }), fc.nat(), (count, capacity, seed) => {
        const items = Array.from({ length: count }, (_, item) => item);
        const order = shuffle(items, capacity, seed);
        assert.deepEqual(
          [...order].sort((a, b) => a - b),
          items,
        );
        for (const [place, item] of order.entries()) assert.ok(item <= place + Math.max(1, capacity));
      }),
    );
  });

  test("keeps the order with a capacity of 1; with a large capacity, all positions are equally likely", () => {
    const items = Array.from({ length: 60 }, (_, item) => item);
    assert.deepEqual(shuffle(items, 1, 3), items);
    // The mean place of item 0 over 400 seeds, with all items in the buffer, is 29.5; its standard error is 17.3 / 20 = 0.87, and 4 of them are allowed.
    const places = Array.from({ length: 400 }, (_, seed) => shuffle(items, 100, seed).indexOf(0));
    const mean = places.reduce((sum, place) => sum + place, 0) / places.length;
    assert.ok(Math.abs(mean - 29.5) < 3.5, `mean place ${mean}`);
  });
});
