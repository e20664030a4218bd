import assert from "node:assert/strict";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Source } from "../../src/data/order.js";
import { startReaders } from "../../src/data/reader-pool.js";
import type { Block } from "../../src/data/shard-reader.js";
import { writePickleShard } from "../../src/data/shard-writer.js";
import type { Video } from "../../src/data/video.js";
import { recordOffsets, truncateRecord } from "../helpers/corrupt.js";
import { temporaryFolder } from "../helpers/files.js";
import { failsWith, SMALL_SIZES, writeShards } from "../helpers/shards.js";

const SHAPE = { maxFrames: 300, featureNames: ["rgb", "audio"], featureSizes: SMALL_SIZES, numClasses: 10, labels: "required" } as const;
const DYING = new URL("../helpers/crashing-worker.js", import.meta.url);

/** Returns copies of a source's blocks, after releasing all blocks. */
async function drain(source: Source<Block>): Promise<Block[]> {
  const blocks: Block[] = [];
  while (!blocks.at(-1)?.last) blocks.push(await takeOne(source));
  return blocks;
}

async function takeOne(source: Source<Block>): Promise<Block> {
  const block = await source.next();
  const copy = structuredClone(block);
  source.release(block);
  return copy;
}

describe("reader threads", () => {
  test("send a shard's videos in blocks of 16, with the last one marked and the file's bytes divided among them", async (t) => {
    const counts = [1, 15, 16, 17, 32, 70];
    const { shards, content } = await writeShards(temporaryFolder(t), counts);
    const pool = startReaders(2);
    const read = await Promise.all(shards.map((path, index) => drain(pool.open(path, index, SHAPE))));
    await pool.close();
    for (const [index, blocks] of read.entries()) {
      assert.deepEqual(
        blocks.flatMap(({ videos }) => videos),
        content[index],
      );
      const sizes = blocks.map(({ videos }) => videos.length);
      assert.ok(sizes.slice(0, -1).every((size) => size === 16) && (sizes.at(-1) as number) > 0, `${sizes}`);
      const fileBytes = blocks.reduce((sum, block) => sum + block.fileBytes, 0);
      assert.equal(fileBytes, readFileSync(shards[index] as string).length);
    }
  });

  test("an error arrives after the blocks before it, and the thread continues with other shards", async (t) => {
    const { shards, content } = await writeShards(temporaryFolder(t), [40, 3]);
    const [file, other] = shards as [string, string];
    truncateSync(file, readFileSync(file).length - 1);
    const pool = startReaders(1);
    const damaged = pool.open(file, 0, SHAPE);
    const whole = pool.open(other, 0, SHAPE);
    assert.deepEqual((await takeOne(damaged)).videos, content[0]?.slice(0, 16));
    assert.deepEqual((await takeOne(damaged)).videos, content[0]?.slice(16, 32));
    const error = await failsWith(damaged.next(), "CORRUPT_RECORD", { file, record: 39 });
    assert.match(error.message, /ends in the middle of a record/);
    assert.deepEqual(
      (await drain(whole)).flatMap(({ videos }) => videos),
      content[1],
    );
    await pool.close();
  });

  test("close stops them while shards are being read", async (t) => {
    const { shards } = await writeShards(temporaryFolder(t), [200, 200, 200]);
    const pool = startReaders(2);
    const sources = shards.map((path, index) => pool.open(path, index, SHAPE));
    await sources[0]?.next();
    await pool.close();
    assert.ok(!process.getActiveResourcesInfo().includes("Worker"));
  });

  test("closeShards rejects pending requests for blocks, and the threads remain usable", async (t) => {
    const { shards, content } = await writeShards(temporaryFolder(t), [70, 3]);
    const pool = startReaders(1);
    const since = performance.now();
    const source = pool.open(shards[0] as string, 0, SHAPE);
    // Three blocks arrive although none is released.
    for (let block = 0; block < 3; block++) await source.next();
    const waiting = failsWith(source.next(), "WORKER_DIED");
    const [open, ...others] = pool.openShards();
    assert.deepEqual([open?.path, others], [shards[0], []]);
    const elapsedMs = performance.now() - since;
    for (const ms of [open?.openMs, open?.quietMs, open?.waitedMs])
      assert.ok(typeof ms === "number" && ms >= 0 && ms <= elapsedMs, `${ms} of ${elapsedMs} ms`);
    await pool.closeShards();
    assert.match((await waiting).message, /reading was cancelled/);
    assert.deepEqual(pool.openShards(), []);
    const other = await drain(pool.open(shards[1] as string, 0, SHAPE));
    assert.deepEqual(
      other.flatMap(({ videos }) => videos),
      content[1],
    );
    await pool.close();
  });

  test("index shards: the end of each record, and whether these are all; errors make an index incomplete", async (t) => {
    const folder = temporaryFolder(t);
    const { shards, content } = await writeShards(folder, [40, 0, 3]);
    const [file, empty, other] = shards as [string, string, string];
    const pickle = join(folder, "shard.pkl");
    await writePickleShard(pickle, content[0] as Video[], 300);
    const starts = recordOffsets(file);
    const pool = startReaders(2);
    const index = async (path: string) => {
      const { ends, isComplete } = await pool.index(path, 0, SHAPE);
      return { ends: [...ends], isComplete };
    };
    assert.deepEqual(await index(file), { ends: [...starts.slice(1), readFileSync(file).length], isComplete: true });
    assert.deepEqual(await index(empty), { ends: [], isComplete: true });
    assert.equal((await index(pickle)).ends.length, 40);
    truncateRecord(file, 30);
    assert.deepEqual(await index(file), { ends: starts.slice(1, 31), isComplete: false });
    assert.deepEqual(await index(join(folder, "missing")), { ends: [], isComplete: false });
    assert.deepEqual(pool.openShards(), []);
    // The records from 1 on, and only 0 and 2.
    const from = await drain(pool.open(other, 0, { ...SHAPE, records: { from: 1 } }));
    const only = await drain(pool.open(other, 0, { ...SHAPE, records: { only: new Map([0, 2].map((record) => [record, null])) } }));
    const [first, second, third] = content[2] as [Video, Video, Video];
    assert.deepEqual(
      [from, only].map((blocks) => blocks.flatMap(({ videos }) => videos)),
      [
        [second, third],
        [first, third],
      ],
    );
    const size = readFileSync(other).length;
    assert.deepEqual(
      from.map(({ fileBytes, last }) => [fileBytes, last]),
      [[size - (recordOffsets(other)[1] as number), true]],
    );
    await pool.close();
  });

  for (const [how, words] of [
    ["exit", /exit code 3/],
    ["throw", /something unforeseen/],
  ] as const) {
    test(`a thread that exits (${how}) fails all its shards, also those opened later, and close still returns`, async () => {
      const pool = startReaders(1, DYING);
      const waiting = pool.open("wait", 0, SHAPE);
      const fatal = pool.open(how, 0, SHAPE);
      for (const source of [fatal, waiting, pool.open("wait", 0, SHAPE)]) {
        const { message } = await failsWith(source.next(), "WORKER_DIED");
        assert.match(message, words);
        assert.ok(message.includes(`; it had these shards open: wait, ${how}, wait. Check them with nextvlad verify`), message);
      }
      await pool.close();
    });
  }
});

test("an error names a file that is no longer a shard", async (t) => {
  const { shards } = await writeShards(temporaryFolder(t), [1]);
  const file = shards[0] as string;
  writeFileSync(file, "no longer a shard\n");
  const pool = startReaders(1);
  await failsWith(pool.open(file, 0, SHAPE).next(), "NOT_TFRECORD", { file });
  await pool.close();
});
