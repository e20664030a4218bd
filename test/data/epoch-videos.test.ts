import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { VideoPool } from "../../src/data/buffer-pool.js";
import type { SkippedRecord } from "../../src/data/corrupt-records.js";
import { EpochVideos } from "../../src/data/epoch-videos.js";
import type { ReaderPool } from "../../src/data/reader-pool.js";
import { addFirstCorrupt } from "../../src/data/shard.js";
import { BLOCK_VIDEOS, type BlockOptions } from "../../src/data/shard-reader.js";
import { writeShard } from "../../src/data/shard-writer.js";
import type { Share } from "../../src/data/share.js";
import { openStream } from "../../src/data/stream.js";
import type { Video } from "../../src/data/video.js";
import { corruptData, recordOffsets } from "../helpers/corrupt.js";
import { temporaryFolder } from "../helpers/files.js";
import { collect, examined, failsWith, randomVideo, type StreamChanges, streamOptions, writeShards } from "../helpers/shards.js";

interface Read {
  readonly batches: string[][];
  readonly skipped: SkippedRecord[];
}

async function read(options: StreamChanges): Promise<Read> {
  const skipped: SkippedRecord[] = [];
  const stream = openStream(streamOptions(options), { onSkipped: (records) => skipped.push(...records) });
  return { batches: await collect(stream, ({ ids }) => [...ids]), skipped };
}

describe("skipping the batches of an earlier run by record headers", () => {
  test("yields the same batches and skipped records as reading everything, with corrupt records too", async (t) => {
    const folder = temporaryFolder(t);
    let run = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 60 }), { minLength: 1, maxLength: 12 }),
        fc.record({
          order: fc.constantFrom("shuffled" as const, "sequential" as const),
          onCorrupt: fc.constantFrom("error" as const, "skip-record" as const, "skip-shard" as const),
          batchSize: fc.integer({ min: 1, max: 9 }),
          shuffleBuffer: fc.integer({ min: 1, max: 150 }),
          readers: fc.integer({ min: 1, max: 3 }),
          seed: fc.nat(),
        }),
        fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 4 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        async (counts, options, damaged, progress) => {
          const { shards } = await writeShards(join(folder, `${run++}`), counts);
          for (const [i, j] of options.onCorrupt === "error" ? [] : damaged) {
            const shard = i % counts.length;
            if ((counts[shard] as number) > 1) corruptData(shards[shard] as string, 1 + (j % ((counts[shard] as number) - 1)));
          }
          const all = await read({ ...options, shards });
          const skipBatches = Math.floor(progress * all.batches.length);
          const firstCorrupt = addFirstCorrupt([], shards.map(examined), all.skipped);
          assert.deepEqual(await read({ ...options, shards, skipBatches, firstCorrupt }), {
            ...all,
            batches: all.batches.slice(skipBatches),
          });
        },
      ),
      { numRuns: 12 },
    );
  });

  for (const order of ["shuffled", "sequential"] as const) {
    test(`does not verify the data of their videos, but those of all others (${order})`, async (t) => {
      const folder = temporaryFolder(t);
      const { shards } = await writeShards(folder, [40, 70, 25, 64, 33]);
      const packed = shards.map((path) => `${path}.gz`);
      const options = { order, batchSize: 6, shuffleBuffer: 30, firstCorrupt: [] };
      const { batches } = await read({ ...options, shards });
      const numbers = [40, 70, 25, 64, 33].flatMap((count, shard) =>
        Array.from({ length: count }, (_, record) => [shard, record] as const),
      );
      const placeOf = (id: string) => numbers[Number(id.slice(5))] as readonly [number, number];
      const skipBatches = 23;
      // The block of 16 that contains the last video to skip, or the last one in the shuffle buffer, is read.
      const unread = batches.slice(0, skipBatches - 3).flat();
      for (const id of unread) corruptData(shards[placeOf(id)[0]] as string, placeOf(id)[1]);
      for (const [i, path] of packed.entries()) writeFileSync(path, gzipSync(readFileSync(shards[i] as string)));
      for (const list of [shards, packed]) {
        assert.deepEqual((await read({ ...options, shards: list, skipBatches })).batches, batches.slice(skipBatches));
      }
      // The next batch, which the shuffle buffer held, and the last one, which no block held.
      for (const id of [batches[skipBatches]?.[0], batches.at(-1)?.[0]] as string[]) {
        const [shard, record] = placeOf(id);
        const file = shards[shard] as string;
        const intact = readFileSync(file);
        corruptData(file, record);
        await failsWith(read({ ...options, shards, skipBatches }), "CORRUPT_RECORD", { file, record });
        writeFileSync(file, intact);
      }
    });
  }

  test("of shards whose rest cannot be read: the error comes at its place in the order", async (t) => {
    const { shards } = await writeShards(temporaryFolder(t), [80, 80, 80]);
    const options = { shards, order: "shuffled", batchSize: 5, shuffleBuffer: 10, firstCorrupt: [] } as const;
    const { batches } = await read(options);
    const file = shards[1] as string;
    writeFileSync(file, readFileSync(file).subarray(0, (recordOffsets(file)[70] as number) + 3));
    const expected: string[][] = [];
    const first = (async () => {
      for await (const { ids } of openStream(streamOptions(options))) expected.push([...ids]);
    })();
    await failsWith(first, "CORRUPT_RECORD", { file, record: 70 });
    assert.ok(expected.length > 20);
    assert.deepEqual(batches.slice(0, expected.length), expected);
    const rest: string[][] = [];
    const resumed = (async () => {
      for await (const { ids } of openStream(streamOptions({ ...options, skipBatches: 15 }))) rest.push([...ids]);
    })();
    await failsWith(resumed, "CORRUPT_RECORD", { file, record: 70 });
    assert.deepEqual(rest, expected.slice(15));
  });
});

describe("a rank that reads only its own videos", () => {
  /** Returns the IDs and the bytes of rgb of each batch that rank r of `size` reads, and the bytes that it has read of the files. */
  async function readShare(options: StreamChanges, rank: number, size: number, divides: Share["divides"], readsOwn = true) {
    const stream = openStream(streamOptions({ ...options, share: { rank, size, divides, readsOwn } }));
    const batches = await collect(stream, ({ ids, rgb, frameCounts }) => ({ ids, rgb: Buffer.from(rgb), frameCounts: [...frameCounts] }));
    return { batches, bytesRead: stream.bytesRead };
  }

  test("has the batches of one that reads all, whatever the shards, also if it skips batches or a shard is compressed", async (t) => {
    const folder = temporaryFolder(t);
    let run = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 60 }), { minLength: 1, maxLength: 10 }),
        fc.record({
          order: fc.constantFrom("shuffled" as const, "sequential" as const),
          batchSize: fc.integer({ min: 4, max: 9 }),
          shuffleBuffer: fc.integer({ min: 1, max: 100 }),
          readers: fc.integer({ min: 1, max: 3 }),
          seed: fc.nat(),
          skipBatches: fc.constantFrom(0, 1, 2),
          dropLast: fc.boolean(),
        }),
        fc.integer({ min: 2, max: 4 }),
        fc.nat(),
        async (counts, options, size, packed) => {
          const { shards } = await writeShards(join(folder, `${run++}`), counts);
          const videos = counts.reduce((sum, count) => sum + count, 0);
          fc.pre(videos >= 3 * options.batchSize);
          const path = shards[packed % shards.length] as string;
          if (packed % 2 === 0) writeFileSync(path, gzipSync(readFileSync(path)));
          for (let rank = 0; rank < size; rank++) {
            const read = (divides: Share["divides"], readsOwn: boolean) => readShare({ ...options, shards }, rank, size, divides, readsOwn);
            // One after another: the next stream uses the threads of the one before.
            const divided = await read("each batch", false);
            assert.deepEqual((await read("each batch", true)).batches, divided.batches);
            const taken = await read("the batches", false);
            const own = await read("the batches", true);
            assert.equal(own.batches.length, taken.batches.length);
            for (const [i, batch] of own.batches.entries())
              if (i % size === rank) assert.deepEqual(batch, taken.batches[i]);
              else assert.equal(batch.rgb.length, 0);
          }
        },
      ),
      { numRuns: 5 },
    );
  });

  test("reads about its share of the bytes; the ranks' videos are those of one process", async (t) => {
    // Records of more than 64 KiB: to find shorter ones, a reader reads a block of that size, not the header alone.
    const sizes = [70_000, 20] as const;
    const videos = Array.from({ length: 60 }, (_, number) => randomVideo(number, sizes));
    const folder = temporaryFolder(t);
    const shards = [0, 1, 2].map((i) => join(folder, `${i}.tfrecord`));
    await Promise.all(shards.map((path, i) => writeShard(path, videos.slice(20 * i, 20 * (i + 1)))));
    const options = { shards, order: "shuffled", batchSize: 12, shuffleBuffer: 30, featureSizes: sizes } as const;
    const alone = await readShare(options, 0, 1, "each batch", false);
    const ranks = await Promise.all([0, 1, 2].map((rank) => readShare(options, rank, 3, "each batch")));
    for (const [i, batch] of alone.batches.entries()) {
      const parts = ranks.map(({ batches }) => batches[i] as typeof batch);
      assert.deepEqual(batch, {
        ids: parts.flatMap(({ ids }) => ids),
        rgb: Buffer.concat(parts.map(({ rgb }) => rgb)),
        frameCounts: parts.flatMap(({ frameCounts }) => frameCounts),
      });
    }
    const size = shards.reduce((sum, path) => sum + readFileSync(path).length, 0);
    assert.ok(alone.bytesRead >= size, `${alone.bytesRead} of ${size} bytes`);
    for (const { batches, bytesRead } of ranks) {
      const own = batches.reduce((sum, { rgb }) => sum + rgb.length, 0);
      // A reader opens each shard once per batch, and reads its first 16 KiB each time.
      const heads = (1 + batches.length) * shards.length * 2 ** 14;
      assert.ok(bytesRead > own && bytesRead < 1.01 * own + heads, `${bytesRead} bytes for ${own} bytes of rgb`);
    }
  });

  test("meets a corrupt record if it is its own", async (t) => {
    const { shards } = await writeShards(temporaryFolder(t), [40]);
    const file = shards[0] as string;
    const options = { shards, batchSize: 8 };
    corruptData(file, 20);
    const all = await readShare(options, 0, 2, "each batch").then(({ batches }) => batches.length);
    assert.equal(all, 5);
    await failsWith(readShare(options, 1, 2, "each batch"), "CORRUPT_RECORD", { file, record: 20 });
  });
});

test("the first corrupt records are kept per shard, whatever the order of the reports", () => {
  const shards = ["/a", "/b", "/c"].map((path) => ({ path, bytes: 1, modifiedMs: 1, endsCrc32c: null }));
  const skip = (file: string, record?: number): SkippedRecord => ({
    error: { code: "CORRUPT_RECORD", what: "", details: { file, ...(record === undefined ? {} : { record }) }, stack: "" } as never,
    extent: "record",
  });
  const known = [{ shard: 1, record: 5 }];
  assert.deepEqual(addFirstCorrupt(known, shards, [skip("/b", 9), skip("/c", 4), skip("/c", 2), skip("/a"), skip("/other", 0)]), [
    { shard: 1, record: 5 },
    { shard: 2, record: 2 },
    { shard: 0, record: 0 },
  ]);
  assert.deepEqual(addFirstCorrupt(known, shards, [skip("/b", 3)]), [{ shard: 1, record: 3 }]);
});

/** Position in a file after a record: records differ in length. */
const endOf = (record: number): number => 100 * (record + 1) + record ** 2;

/** Returns a pool whose shards have `count` records, and a log of what was opened and read. Selected records end `truncated` records too early. */
function memoryPool(count: number, truncated = 0): { readonly pool: ReaderPool; readonly log: string[] } {
  const log: string[] = [];
  const all = Array.from({ length: count }, (_, record) => record);
  const select = (records: BlockOptions["records"]): readonly [string, readonly number[]] => {
    if (records === undefined) return ["", all];
    if ("from" in records) return [` from ${records.from}`, all.slice(records.from)];
    return [` only ${records.only.size}`, all.filter((record) => records.only.has(record)).slice(0, records.only.size - truncated)];
  };
  const pool: ReaderPool = {
    readers: 1,
    open(path, _, { records }) {
      const [selection, selected] = select(records);
      log.push(`open ${path}${selection}`);
      let at = 0;
      const next = async () => {
        const taken = selected.slice(at, at + BLOCK_VIDEOS);
        at += BLOCK_VIDEOS;
        const [first = 0, end = 0] = [taken[0], taken.at(-1)];
        log.push(`read ${path} ${first}..${end}`);
        const videos = taken.map((record) => ({ ...randomVideo(record), id: `${path}:${record}` }));
        const fileBytes = endOf(end) - (first === 0 ? 0 : endOf(first - 1));
        return { videos, fileBytes, last: at >= selected.length, buffer: new ArrayBuffer(0), skipped: [] };
      };
      return { next, release: () => undefined };
    },
    index: async (path) => {
      log.push(`index ${path}`);
      return { ends: Float64Array.from(all, endOf), isComplete: true, isSeekable: true };
    },
    bytesRead: () => 0,
    takeOpened: () => [],
    openShards: () => [],
    closeShards: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
  return { pool, log };
}

async function videosOf(
  options: StreamChanges,
  pool: ReaderPool,
  videos = new VideoPool(),
): Promise<{ id: string | null; fileBytes: number }[]> {
  const epoch = new EpochVideos(streamOptions(options), { pool, videos }, () => undefined);
  return collect(epoch, ({ video, fileBytes }) => ({ id: video?.id ?? null, fileBytes }));
}

describe("an epoch over shards in memory", () => {
  const shuffled = { shards: ["/a"], order: "shuffled", batchSize: 1, shuffleBuffer: 15 } as const;
  const sequential = { order: "sequential", batchSize: 16, firstCorrupt: [] } as const;

  test("releases the copy of each video, also of those left in the shuffle buffer at the end", async () => {
    const released: string[] = [];
    class CountingPool extends VideoPool {
      override release(video: Video): void {
        released.push(video.id);
        super.release(video);
      }
    }
    const yielded = await videosOf(shuffled, memoryPool(20).pool, new CountingPool());
    assert.equal(yielded.length, 20);
    assert.deepEqual(
      released,
      yielded.map(({ id }) => id),
    );
  });

  test("reads only headers of the first block to skip one video, if the shuffle buffer holds the others; none to skip no video", async () => {
    const { pool, log } = memoryPool(20);
    const videos = await videosOf({ ...shuffled, skipBatches: 1 }, pool);
    assert.deepEqual(log.slice(0, -1), ["index /a", "open /a from 16", "read /a 16..19", "open /a only 15"]);
    const whole = memoryPool(20);
    const all = await videosOf(shuffled, whole.pool);
    assert.deepEqual(whole.log, ["open /a", "read /a 0..15", "read /a 16..19"]);
    assert.deepEqual(
      videos.map(({ id }) => id),
      [null, ...all.slice(1).map(({ id }) => id)],
    );
  });

  test("opens all shards at once when the first block must be read; a skipped block's bytes are divided among its videos", async () => {
    const { pool, log } = memoryPool(40);
    const videos = await videosOf({ ...sequential, shards: ["/a", "/b", "/c"], readers: 2, skipBatches: 2 }, pool);
    const opened = ["open /a from 32", "open /b from 0", "open /c from 0"];
    assert.deepEqual(log.slice(0, 7), ["index /a", "index /b", "index /c", ...opened, "read /a 32..39"]);
    const bytes = [endOf(15), endOf(31) - endOf(15), endOf(39) - endOf(31)];
    assert.deepEqual(
      videos.slice(0, 40).map(({ fileBytes }) => fileBytes),
      [
        ...Array(16).fill((bytes[0] as number) / 16),
        ...Array(16).fill((bytes[1] as number) / 16),
        ...Array(8).fill((bytes[2] as number) / 8),
      ],
    );
  });

  test("reads a shard from the block of its first corrupt record on, also if it is listed twice, and the next shard once it must", async () => {
    const { pool, log } = memoryPool(48);
    const firstCorrupt = [
      { shard: 0, record: 40 },
      { shard: 1, record: 20 },
    ];
    const options = { ...sequential, shards: ["/a", "/a"], readers: 1, skipBatches: 3, onCorrupt: "skip-record", firstCorrupt } as const;
    await videosOf(options, pool);
    const first = ["open /a from 16", "read /a 16..31", "read /a 32..47"];
    const second = ["open /a from 0", "read /a 0..15", "read /a 16..31", "read /a 32..47"];
    assert.deepEqual(log, ["index /a", "index /a", ...first, ...second]);
  });

  test("fails if a shard no longer has one of the videos in the shuffle buffer", async () => {
    const { pool } = memoryPool(20, 1);
    const error = await failsWith(videosOf({ ...shuffled, skipBatches: 1 }, pool), "BAD_FORMAT", { file: "/a" });
    assert.match(error.message, /truncated while it was being read/);
  });
});
