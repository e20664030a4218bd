import assert from "node:assert/strict";
import { readdirSync, readlinkSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import fc from "fast-check";
import { createRandom } from "../../src/base/random.js";
import { BufferPool } from "../../src/data/buffer-pool.js";
import { readBlocks } from "../../src/data/shard-reader.js";
import { writeShard } from "../../src/data/shard-writer.js";
import { closeOnAbort, openStream, type StreamOptions } from "../../src/data/stream.js";
import type { RaggedBatch, Video } from "../../src/data/video.js";
import { temporaryFolder } from "../helpers/files.js";
import {
  collect,
  failsWith,
  goldenData,
  goldenVideos,
  randomVideo,
  type StreamChanges,
  streamOptions,
  writeShards,
} from "../helpers/shards.js";

const COUNTS = [40, 3, 17, 1, 16, 33, 8, 25, 5, 64, 2, 16, 9];

const stream = (options: StreamChanges) => openStream(streamOptions(options));

/** Splits a batch into its videos. */
function videosOf(batch: RaggedBatch): Video[] {
  let offset = 0;
  const [rgbSize, audioSize] = [batch.rgb, batch.audio].map(
    (bytes) => bytes.length / batch.frameCounts.reduce((sum, frames) => sum + frames, 0),
  ) as [number, number];
  return batch.ids.map((id, index) => {
    const frames = batch.frameCounts[index] as number;
    const start = offset;
    offset += frames;
    const rgb = batch.rgb.subarray(start * rgbSize, offset * rgbSize);
    const audio = batch.audio.subarray(start * audioSize, offset * audioSize);
    return { id, frames, rgb, audio, labels: batch.labels[index] as Int32Array };
  });
}

const idsOf = (options: StreamChanges) => collect(stream(options), ({ ids }) => ids);

/** An independent implementation of the shuffled order, without threads, files or generators: see `order.ts`. */
function modelOrder(
  content: readonly (readonly Video[])[],
  { seed, epoch, shuffleBuffer }: Pick<StreamOptions, "seed" | "epoch" | "shuffleBuffer">,
): string[] {
  const waiting = createRandom(seed, "shards", epoch).shuffle(content.map((videos) => videos.map(({ id }) => id)));
  const slots = waiting.splice(0, 8);
  const merged: string[] = [];
  for (let slot = 0; slots.some((ids) => ids.length > 0); slot = (slot + 1) % slots.length) {
    const ids = slots[slot] as string[];
    merged.push(...ids.splice(0, 16));
    if (ids.length === 0) slots[slot] = waiting.shift() ?? [];
  }
  const random = createRandom(seed, "videos", epoch);
  const held = merged.slice(0, shuffleBuffer);
  const shuffled: string[] = [];
  for (const id of merged.slice(shuffleBuffer)) {
    const place = random.below(shuffleBuffer);
    shuffled.push(held[place] as string);
    held[place] = id;
  }
  return [...shuffled, ...random.shuffle(held)];
}

describe("a batch", () => {
  test("holds the golden shards' videos back to back, whatever the compression", async () => {
    for (const name of ["train0000.tfrecord", "train0000.tfrecord.gz", "train0000.tfrecord.zlib"]) {
      const options = { shards: [goldenData(name)], featureSizes: [1024, 128], numClasses: 50, batchSize: 3 } as const;
      const batches = await collect(stream(options), structuredClone);
      assert.deepEqual(
        batches.map(({ ids }) => ids.length),
        [3, 1],
      );
      assert.deepEqual(batches.flatMap(videosOf), goldenVideos(), name);
    }
  });

  test("is in memory of its own, at offset 0", async (t) => {
    const { shards } = await writeShards(temporaryFolder(t), [12]);
    const batches = await collect(stream({ shards }), structuredClone);
    const arrays = batches.flatMap(({ rgb, audio }) => [rgb, audio]);
    assert.equal(new Set(arrays.map(({ buffer }) => buffer)).size, arrays.length);
    for (const array of arrays) assert.equal(array.byteOffset, 0);
  });
});

describe("sequential order", () => {
  test("is that of the list and the files, with a partial last batch, for any number of readers", async (t) => {
    const { shards, content } = await writeShards(temporaryFolder(t), COUNTS);
    for (const readers of [1, 2, 3]) {
      const batches = await collect(stream({ shards, readers, batchSize: 7 }), structuredClone);
      assert.deepEqual(batches.flatMap(videosOf), content.flat(), `${readers} readers`);
      assert.deepEqual(
        batches.map(({ ids }) => ids.length),
        [...Array(34).fill(7), 1],
      );
    }
  });
});

describe("shuffled order", () => {
  test("equals the reference order for any number of readers and a slow consumer", async (t) => {
    const { shards, content } = await writeShards(temporaryFolder(t), COUNTS);
    for (const shuffleBuffer of [20, 1000]) {
      const options = { shards, order: "shuffled", shuffleBuffer, seed: 7, epoch: 3 } as const;
      const expected = modelOrder(content, options);
      for (const readers of [1, 2, 3]) assert.deepEqual((await idsOf({ ...options, readers })).flat(), expected, `${readers} readers`);
    }
    const slow: string[] = [];
    const options = streamOptions({ shards, order: "shuffled" });
    for await (const { ids } of openStream(options)) {
      slow.push(...ids);
      if (slow.length % 40 === 0) await setTimeout(10);
    }
    assert.deepEqual(slow, modelOrder(content, options));
  });

  test("equals the reference order with shards that are empty or listed several times, also after skipped batches", async (t) => {
    const written = await writeShards(temporaryFolder(t), [...COUNTS, 0, 0]);
    const listed = [0, 13, 3, 0, 5, 14, 5, 0, 13, 1, 2, 9, 6, 7, 8, 4, 0];
    const [shards, content] = [listed.map((i) => written.shards[i] as string), listed.map((i) => written.content[i] as Video[])];
    assert.equal(statSync(written.shards[13] as string).size, 0);
    const options = { shards, order: "shuffled", shuffleBuffer: 20, seed: 7, epoch: 0, batchSize: 5 } as const;
    const expected = modelOrder(content, options);
    assert.equal(expected.filter((id) => id === content[0]?.[0]?.id).length, 4);
    for (const readers of [1, 3]) assert.deepEqual((await idsOf({ ...options, readers })).flat(), expected);
    assert.deepEqual((await idsOf({ ...options, skipBatches: 11 })).flat(), expected.slice(11 * options.batchSize));
    const inOrder = content.flat().map(({ id }) => id);
    assert.deepEqual((await idsOf({ ...options, order: "sequential" })).flat(), inOrder);
  });

  test("yields each video once, with its own features and labels; dropLast drops less than a batch", async (t) => {
    const folder = temporaryFolder(t);
    let run = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 1, max: 9 }),
        fc.integer({ min: 1, max: 60 }),
        fc.nat(),
        async (counts, batchSize, shuffleBuffer, seed) => {
          const { shards, content } = await writeShards(join(folder, `${run++}`), counts);
          const options = { shards, order: "shuffled", seed, batchSize, shuffleBuffer } as const;
          const byId = (a: Video, b: Video) => (a.id < b.id ? -1 : 1);
          const videos = (await collect(stream(options), structuredClone)).flatMap(videosOf);
          assert.deepEqual([...videos].sort(byId), content.flat().sort(byId));
          if (videos.length < batchSize) return;
          const kept = (await collect(stream({ ...options, dropLast: true }), structuredClone)).flatMap(videosOf);
          assert.deepEqual(kept, videos.slice(0, videos.length - (videos.length % batchSize)));
        },
      ),
      { numRuns: 4 },
    );
  });

  test("differs by epoch and by seed", async (t) => {
    const { shards } = await writeShards(temporaryFolder(t), COUNTS);
    const orders = await Promise.all([{}, { epoch: 1 }, { seed: 2 }].map((change) => idsOf({ shards, order: "shuffled", ...change })));
    assert.equal(new Set(orders.map((ids) => ids.flat().join())).size, 3);
  });
});

test("a batch's features are valid until the next batch is requested, which reuses their memory", async (t) => {
  const { shards, content } = await writeShards(temporaryFolder(t), [40]);
  let before = null as RaggedBatch | null;
  const seen: Video[] = [];
  for await (const batch of stream({ shards, batchSize: 2 })) {
    assert.equal(before?.rgb.length ?? 0, 0);
    assert.equal(before?.audio.length ?? 0, 0);
    before = batch;
    seen.push(...videosOf(structuredClone(batch)));
  }
  assert.deepEqual(seen, content.flat());
  assert.equal(before?.rgb.length, 0);
});

test("consecutive streams share their threads, also after an early exit; concurrent ones do not", async (t) => {
  const threads = () => readdirSync("/proc/self/task").length;
  const { shards, content } = await writeShards(temporaryFolder(t), Array(12).fill(60));
  const ids = content.flat().map(({ id }) => id);
  await idsOf({ shards });
  const before = threads();
  for (const order of ["shuffled", "sequential"] as const) {
    let taken = 0;
    for await (const _ of stream({ shards, order, batchSize: 7 })) if (++taken === 5) break;
    assert.deepEqual((await idsOf({ shards })).flat(), ids);
    const options = { shards, order: "shuffled", shuffleBuffer: 20, seed: 1, epoch: 2 } as const;
    assert.deepEqual((await idsOf(options)).flat(), modelOrder(content, options));
  }
  assert.equal(threads(), before);
  const both = await Promise.all([idsOf({ shards }), idsOf({ shards, batchSize: 3 }), idsOf({ shards, readers: 3 })]);
  for (const given of both) assert.deepEqual(given.flat(), ids);
});

test("limitVideos ends the order after so many videos, also after skipped batches; the last batch may be smaller or dropped", async (t) => {
  const { shards } = await writeShards(temporaryFolder(t), COUNTS);
  for (const order of ["sequential", "shuffled"] as const) {
    const options = { shards, order, batchSize: 5 } as const;
    const all = (await idsOf(options)).flat();
    for (const [limitVideos, dropLast, count] of [
      [12, false, 12],
      [12, true, 10],
      [15, true, 15],
      [1000, false, all.length],
    ] as const) {
      const limited = { ...options, limitVideos, dropLast };
      const opened = stream(limited);
      assert.deepEqual((await collect(opened, ({ ids }) => ids)).flat(), all.slice(0, count), `${order} ${limitVideos}`);
      assert.ok(opened.complete);
      assert.deepEqual((await idsOf({ ...limited, skipBatches: 1 })).flat(), all.slice(5, count));
    }
    const halves = stream({ ...options, limitVideos: 10 });
    const fractions = await collect(halves, () => halves.fraction);
    assert.deepEqual(fractions, [0.5, 1]);
    await failsWith(collect(stream({ ...options, limitVideos: 4, dropLast: true })), "TOO_FEW_VIDEOS");
  }
});

test("skipBatches continues exactly after the skipped batches, also at the end", async (t) => {
  const { shards } = await writeShards(temporaryFolder(t), COUNTS);
  for (const order of ["shuffled", "sequential"] as const) {
    const options = { shards, order, dropLast: order === "shuffled", batchSize: 7 };
    const all = await collect(stream(options), structuredClone);
    assert.equal(all.length, order === "shuffled" ? 34 : 35);
    for (const skipBatches of [1, 20, all.length]) {
      assert.deepEqual(await collect(stream({ ...options, skipBatches }), structuredClone), all.slice(skipBatches));
    }
    const [code, key] = order === "shuffled" ? (["BAD_SNAPSHOT", "step_in_epoch"] as const) : (["BAD_RESULTS", "batches"] as const);
    const beyond = collect(stream({ ...options, skipBatches: all.length + 1 }));
    await failsWith(beyond, code, { key, expected: `at most ${all.length}`, found: all.length + 1 });
  }
});

test("fraction rises to 1 in proportion to the bytes; waiting is measured", async (t) => {
  const { shards } = await writeShards(temporaryFolder(t), [100, 100]);
  const batches = stream({ shards, batchSize: 50 });
  const fractions: number[] = [];
  for await (const _ of batches) fractions.push(batches.fraction);
  // 100 videos form blocks of 16 and one of 4, and a block's bytes are divided equally among its videos.
  const [sizes, blocks] = [shards.map((shard) => statSync(shard).size), await blockBytes(shards)];
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const perVideo = blocks.flatMap(({ videos, bytes }) => Array<number>(videos).fill(bytes / videos));
  const expected = [50, 100, 150, 200].map((count) => perVideo.slice(0, count).reduce((sum, bytes) => sum + bytes, 0) / total);
  for (const [i, fraction] of fractions.entries())
    assert.ok(Math.abs(fraction - (expected[i] as number)) < 1e-9, `${fractions}, not ${expected}`);
  assert.equal(batches.fraction, 1);
  assert.ok(batches.waitedMs > 0);
});

/** Returns the number of videos and bytes of each block of the shards, in order. */
async function blockBytes(shards: readonly string[]): Promise<{ videos: number; bytes: number }[]> {
  const { maxFrames, featureNames, featureSizes, numClasses, labels } = streamOptions({ shards });
  const blocks: { videos: number; bytes: number }[] = [];
  for (const shard of shards) {
    for await (const { videos, fileBytes } of readBlocks(
      shard,
      { maxFrames, featureNames, featureSizes, numClasses, labels },
      new BufferPool(),
    ))
      blocks.push({ videos: videos.length, bytes: fileBytes });
  }
  return blocks;
}

test("a signal closes the stream, also if it is already aborted, but not after the listener is removed", async (t) => {
  const { shards } = await writeShards(temporaryFolder(t), [20]);
  const countBatches = async (prepare: (signal: AbortController, open: ReturnType<typeof stream>) => void): Promise<number> => {
    const [controller, open] = [new AbortController(), stream({ shards })];
    prepare(controller, open);
    let count = 0;
    for await (const _ of open) count++;
    assert.equal(open.complete, count === 4);
    return count;
  };
  const early = (controller: AbortController, open: ReturnType<typeof stream>): void => {
    controller.abort();
    closeOnAbort(open, controller.signal);
  };
  const late = (controller: AbortController, open: ReturnType<typeof stream>): void => {
    closeOnAbort(open, controller.signal);
    controller.abort();
  };
  const released = (controller: AbortController, open: ReturnType<typeof stream>): void => {
    closeOnAbort(open, controller.signal)();
    controller.abort();
  };
  assert.deepEqual([await countBatches(early), await countBatches(late), await countBatches(released)], [0, 0, 4]);
});

describe("errors", () => {
  test("are thrown at their place in the order, for any number of readers", async (t) => {
    const { shards, content } = await writeShards(temporaryFolder(t), [20, 20, 20]);
    const file = shards[1] as string;
    truncateSync(file, statSync(file).size - 1);
    for (const readers of [1, 2, 3]) {
      const given: string[] = [];
      const reading = (async () => {
        for await (const { ids } of stream({ shards, readers })) given.push(...ids);
      })();
      await failsWith(reading, "CORRUPT_RECORD", { file, record: 19 });
      assert.deepEqual(
        given,
        content
          .flat()
          .slice(0, 35)
          .map(({ id }) => id),
      );
    }
  });

  test("name the shard: missing, text, labels out of range, or another feature size", async (t) => {
    const folder = temporaryFolder(t);
    const { shards } = await writeShards(folder, [4]);
    const [text, unlabelled, missing] = ["text", "unlabelled", "missing"].map((name) => join(folder, name)) as [string, string, string];
    writeFileSync(text, "hello\n");
    await writeShard(unlabelled, [{ ...randomVideo(1), labels: Int32Array.of(10) }]);
    const run = (file: string, change: Partial<StreamOptions> = {}) => idsOf({ shards: [...shards, file], ...change });
    await failsWith(run(missing), "FILE_MISSING", { file: missing });
    await failsWith(run(text), "NOT_TFRECORD", { file: text });
    await failsWith(run(unlabelled), "BAD_LABELS", { file: unlabelled, record: 0, video: "video1", expected: "0 to 9", found: 10 });
    await failsWith(run(text, { featureSizes: [6, 4] }), "BAD_VIDEO", { file: shards[0] as string, record: 0 });
    await failsWith(run(text, { order: "shuffled" }), "NOT_TFRECORD", { file: text });
  });

  test("with fewer videos than one batch, state their number and the batch size", async (t) => {
    const { shards } = await writeShards(temporaryFolder(t), [3, 2]);
    const error = await failsWith(idsOf({ shards, dropLast: true, batchSize: 6 }), "TOO_FEW_VIDEOS");
    assert.match(error.message, /expected at least 6 videos, found 5 in 2 shards\)\. Set batch_size to 5 or less/);
    assert.equal((await idsOf({ shards, dropLast: true, batchSize: 5 })).length, 1);
  });
});

describe("an early exit", () => {
  const threads = () => readdirSync("/proc/self/task").length;
  const openShards = (folder: string) => readdirSync("/proc/self/fd").filter((fd) => targetOf(fd).startsWith(folder)).length;
  const targetOf = (fd: string): string => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      // The descriptor of the directory listing itself is closed again.
      return "";
    }
  };

  test("by break, by an error in the loop, or by close before or during the iteration leaves no thread and no file open", async (t) => {
    const folder = temporaryFolder(t);
    const { shards } = await writeShards(folder, Array(12).fill(200));
    await collect(stream({ shards }), structuredClone);
    const before = threads();
    for (const order of ["shuffled", "sequential"] as const) {
      for await (const _ of stream({ shards, order })) break;
      await assert.rejects(async () => {
        for await (const _ of stream({ shards, order })) throw new Error("the caller's own");
      }, /the caller's own/);
      const unread = stream({ shards, order });
      await unread.close();
      await unread.close();
      assert.deepEqual(await collect(unread, structuredClone), []);
      const shared = stream({ shards, order });
      const reading = collect(shared, structuredClone);
      await setTimeout(20);
      await shared.close();
      assert.ok((await reading).length < 480);
    }
    assert.ok(!process.getActiveResourcesInfo().includes("Worker"));
    assert.ok(threads() <= before, `${threads()} threads, ${before} before`);
    assert.equal(openShards(folder), 0);
  });
});
