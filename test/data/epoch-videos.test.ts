import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import type { SkippedRecord } from "../../src/data/corrupt-records.js";
import { addFirstCorrupt } from "../../src/data/shard.js";
import { openStream } from "../../src/data/stream.js";
import { corruptData, recordOffsets } from "../helpers/corrupt.js";
import { temporaryFolder } from "../helpers/files.js";
import { collect, examined, failsWith, type StreamChanges, streamOptions, writeShards } from "../helpers/shards.js";

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

test("the first corrupt records are kept per shard, whatever the order of the reports", () => {
  const shards = ["/a", "/b", "/c"].map((path) => ({ path, bytes: 1, modifiedMs: 1 }));
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
