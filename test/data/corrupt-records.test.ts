import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { gzipSync } from "node:zlib";
import type { CorruptPolicy } from "../../src/config/value-types.js";
import type { SkippedRecord } from "../../src/data/corrupt-records.js";
import { addFirstCorrupt } from "../../src/data/shard.js";
import { writePickleShard, writeShard } from "../../src/data/shard-writer.js";
import { openStream } from "../../src/data/stream.js";
import { encodeTfRecord } from "../../src/formats/containers/tfrecord.js";
import { encodeSequenceExample } from "../../src/formats/protobuf/sequence-example.js";
import { corruptData, corruptLength, recordOffsets, truncateRecord } from "../helpers/corrupt.js";
import { temporaryFolder } from "../helpers/files.js";
import {
  collect,
  examined,
  failsWith,
  randomVideo,
  SMALL_SIZES,
  type StreamChanges,
  streamOptions,
  writeShards,
} from "../helpers/shards.js";

interface Read {
  readonly batches: string[][];
  readonly skipped: SkippedRecord[];
}

/** Returns the IDs in a stream's batches, and the records that it skipped. */
async function read(options: StreamChanges): Promise<Read> {
  const skipped: SkippedRecord[] = [];
  const stream = openStream(streamOptions(options), { onSkipped: (parts) => skipped.push(...parts) });
  return { batches: await collect(stream, ({ ids }) => [...ids]), skipped };
}

const places = ({ skipped }: Read) => skipped.map(({ error, extent }) => [error.code, error.details.record, extent]);

/** Encodes an example with the given numbers of rgb and audio frames, and this context. */
function example(rgbFrames: number, audioFrames: number, context: Record<string, Uint8Array | readonly number[]>): Uint8Array {
  return encodeSequenceExample({
    context,
    frameLists: [
      { name: "rgb", frameBytes: SMALL_SIZES[0], data: new Uint8Array(SMALL_SIZES[0] * rgbFrames) },
      { name: "audio", frameBytes: SMALL_SIZES[1], data: new Uint8Array(SMALL_SIZES[1] * audioFrames) },
    ],
  });
}

const NAMED = { id: Buffer.from("odd"), labels: [1] };

/** Writes a shard of 20 videos with the tenth record replaced by `data`; returns its path. */
async function withTenth(t: TestContext, data: Uint8Array): Promise<string> {
  const path = join(temporaryFolder(t), "shard.tfrecord");
  await writeShard(
    path,
    Array.from({ length: 20 }, (_, i) => randomVideo(i)),
  );
  const starts = recordOffsets(path);
  const bytes = readFileSync(path);
  writeFileSync(path, Buffer.concat([bytes.subarray(0, starts[9]), encodeTfRecord(data), bytes.subarray(starts[10])]));
  return path;
}

const idsBut = (count: number, ...missing: number[]): string[] =>
  Array.from({ length: count }, (_, i) => i)
    .filter((i) => !missing.includes(i))
    .map((i) => `video${i}`);

describe("a corrupt record", () => {
  for (const [what, code, data] of [
    ["that is no example", "BAD_FORMAT", Buffer.from("no example at all")],
    ["without frames", "BAD_VIDEO", example(0, 0, NAMED)],
    ["with frames of one feature only for some", "BAD_VIDEO", example(3, 2, NAMED)],
    ["that is empty", "BAD_VIDEO", new Uint8Array()],
  ] as const) {
    test(`${what} is an error, or is skipped alone or with the rest of the shard`, async (t) => {
      const path = await withTenth(t, data);
      const shards = [path];
      await failsWith(read({ shards }), code, { file: path, record: 9 });
      const record = await read({ shards, onCorrupt: "skip-record" });
      assert.deepEqual([record.batches.flat(), places(record)], [idsBut(20, 9), [[code, 9, "record"]]]);
      const shard = await read({ shards, onCorrupt: "skip-shard" });
      assert.deepEqual([shard.batches.flat(), places(shard)], [idsBut(9), [[code, 9, "rest of shard"]]]);
    });
  }

  test("with a wrong checksum is reported with its position, also in gzip", async (t) => {
    const folder = temporaryFolder(t);
    const { shards } = await writeShards(folder, [20]);
    const file = shards[0] as string;
    const byteOffset = recordOffsets(file)[4];
    corruptData(file, 4);
    writeFileSync(join(folder, "packed"), gzipSync(readFileSync(file)));
    for (const shard of [file, join(folder, "packed")]) {
      const found = await read({ shards: [shard], onCorrupt: "skip-record" });
      assert.deepEqual(found.batches.flat(), idsBut(20, 4));
      const [{ error }] = found.skipped as [SkippedRecord];
      assert.deepEqual([error.details.file, error.details.byteOffset, error.code], [shard, byteOffset, "CORRUPT_RECORD"]);
    }
  });
});

describe("if the next record cannot be found", () => {
  const both: readonly CorruptPolicy[] = ["skip-record", "skip-shard"];

  test("after an invalid length or a truncation, the rest of the shard is skipped, and the next shard is read", async (t) => {
    for (const damage of [corruptLength, truncateRecord]) {
      const { shards } = await writeShards(temporaryFolder(t), [20, 5]);
      damage(shards[0] as string, 7);
      for (const onCorrupt of both) {
        const found = await read({ shards, onCorrupt });
        assert.deepEqual(found.batches.flat(), idsBut(25, ...Array.from({ length: 13 }, (_, i) => 7 + i)));
        assert.deepEqual(places(found), [["CORRUPT_RECORD", 7, "rest of shard"]]);
      }
    }
  });

  test("as in corrupt gzip, the rest of the shard is skipped; an empty shard is not corrupt", async (t) => {
    const folder = temporaryFolder(t);
    const { shards } = await writeShards(folder, [400, 3]);
    const [packed, empty] = [join(folder, "packed"), join(folder, "empty")];
    const bytes = gzipSync(readFileSync(shards[0] as string));
    writeFileSync(packed, bytes.subarray(0, bytes.length - 20));
    writeFileSync(empty, "");
    for (const onCorrupt of both) {
      const { batches, skipped } = await read({ shards: [packed, empty, shards[1] as string], onCorrupt });
      assert.deepEqual(batches.flat().slice(-3), ["video400", "video401", "video402"]);
      assert.deepEqual(
        skipped.map(({ error, extent }) => [error.code, error.details.file, extent]),
        [["CORRUPT_RECORD", packed, "rest of shard"]],
      );
    }
  });
});

test("mistakes that may affect the whole data set or the config are errors under every policy", async (t) => {
  const folder = temporaryFolder(t);
  const label = await withTenth(t, example(3, 3, { ...NAMED, labels: [10] }));
  const unlabelled = await withTenth(t, example(3, 3, { id: NAMED.id }));
  const unnamed = await withTenth(t, example(3, 3, { name: NAMED.id, labels: [1] }));
  const text = join(folder, "text");
  writeFileSync(text, "a page that says that there is no such file\n");
  const { shards } = await writeShards(temporaryFolder(t), [3]);
  const headless = shards[0] as string;
  corruptLength(headless, 0);
  const missing = join(folder, "missing");
  for (const onCorrupt of ["skip-record", "skip-shard"] as const) {
    await failsWith(read({ shards: [label], onCorrupt }), "BAD_LABELS", { record: 9, found: 10 });
    await failsWith(read({ shards: [unlabelled], onCorrupt }), "BAD_LABELS", { record: 9 });
    await failsWith(read({ shards: [unnamed], onCorrupt }), "BAD_VIDEO", { record: 9 });
    await failsWith(read({ shards: [label], onCorrupt, featureSizes: [6, 4] }), "BAD_VIDEO", { record: 0, found: 3 });
    await failsWith(read({ shards: [label], onCorrupt, featureNames: ["rgb", "sound"] }), "BAD_VIDEO", { record: 0 });
    await failsWith(read({ shards: [text], onCorrupt }), "NOT_TFRECORD", { file: text });
    await failsWith(read({ shards: [headless], onCorrupt }), "NOT_TFRECORD", { file: headless });
    await failsWith(read({ shards: [missing], onCorrupt }), "FILE_MISSING", { file: missing });
  }
});

test("the order of the other videos does not depend on the readers, nor on batches to skip", async (t) => {
  const { shards } = await writeShards(temporaryFolder(t), [40, 3, 17, 1, 16, 33, 8, 25, 5, 64]);
  for (const [shard, record] of [
    [0, 15],
    [0, 16],
    [1, 2],
    [3, 0],
    [9, 63],
  ] as const)
    corruptData(shards[shard] as string, record);
  corruptLength(shards[5] as string, 20);
  for (const onCorrupt of ["skip-record", "skip-shard"] as const) {
    const options = { shards, onCorrupt, order: "shuffled", dropLast: true, batchSize: 7 } as const;
    const all = await read({ ...options, readers: 1 });
    assert.equal(all.skipped.length, onCorrupt === "skip-record" ? 6 : 5);
    for (const readers of [2, 3]) assert.deepEqual(await read({ ...options, readers }), all);
    for (const skipBatches of [1, 11, all.batches.length]) {
      for (const firstCorrupt of [undefined, addFirstCorrupt([], shards.map(examined), all.skipped)]) {
        const rest = await read({ ...options, skipBatches, firstCorrupt });
        assert.deepEqual(rest, { ...all, batches: all.batches.slice(skipBatches) });
      }
    }
  }
});

test("if nothing is left, skipped records are reported before the error", async (t) => {
  const { shards } = await writeShards(temporaryFolder(t), [3]);
  corruptLength(shards[0] as string, 1);
  const skipped: SkippedRecord[] = [];
  const options = streamOptions({ shards, onCorrupt: "skip-record", dropLast: true });
  const stream = openStream(options, { onSkipped: (parts) => skipped.push(...parts) });
  await failsWith(collect(stream), "TOO_FEW_VIDEOS");
  assert.equal(skipped.length, 1);
});

test("of a pickle, a single video is skipped, or all of them if it cannot be parsed", async (t) => {
  const folder = temporaryFolder(t);
  const videos = Array.from({ length: 6 }, (_, i) => randomVideo(i));
  const [odd, cut, other] = ["odd.pkl", "cut.pkl", "other.pkl"].map((name) => join(folder, name)) as [string, string, string];
  const uneven = { ...randomVideo(2), frames: 3, rgb: new Uint8Array(18), audio: new Uint8Array(9) };
  await writePickleShard(odd, [...videos.slice(0, 2), uneven, ...videos.slice(3)], 300);
  // Sets the nframes of the third video, the last item in its dict, to 0.
  const bytes = readFileSync(odd);
  const nframes = bytes.lastIndexOf("K\x03", bytes.indexOf("video3"), "latin1");
  bytes[nframes + 1] = 0;
  writeFileSync(odd, bytes);
  await writePickleShard(cut, videos, 300);
  writeFileSync(cut, readFileSync(cut).subarray(0, -40));
  await writePickleShard(other, [randomVideo(7)], 300);
  await failsWith(read({ shards: [odd] }), "BAD_VIDEO", { file: odd, record: 2, video: "video2" });
  const record = await read({ shards: [odd, cut, other], onCorrupt: "skip-record" });
  assert.deepEqual(record.batches.flat(), [...idsBut(6, 2), "video7"]);
  assert.deepEqual(places(record), [
    ["BAD_VIDEO", 2, "record"],
    ["BAD_FORMAT", undefined, "rest of shard"],
  ]);
  const shard = await read({ shards: [odd, other], onCorrupt: "skip-shard" });
  assert.deepEqual(shard.batches.flat(), ["video0", "video1", "video7"]);
});
