import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, copyFileSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { deflateSync, gzipSync } from "node:zlib";
import fc from "fast-check";
import { NextvladError } from "../../../src/base/errors.js";
import { maskedCrc32c } from "../../../src/formats/checksum.js";
import { type ByteSource, type OpenedSource, openFileSource, type RecordPlace } from "../../../src/formats/containers/byte-source.js";
import {
  encodeTfRecord,
  type PlacedRecord,
  readTfRecordFile,
  readTfRecords,
  type TfRecord,
  walkRecordHeaders,
} from "../../../src/formats/containers/tfrecord.js";
import { corruptData, corruptLength, recordOffsets, truncateRecord } from "../../helpers/corrupt.js";
import { temporaryFolder } from "../../helpers/files.js";
import { collect, failsWith, goldenData, memorySource } from "../../helpers/shards.js";

const copy = (record: TfRecord) => Buffer.from(record.data);
const bytes = (text: string) => new Uint8Array(Buffer.from(text, "latin1"));
const framed = (...records: Uint8Array[]) => new Uint8Array(Buffer.concat(records.map(encodeTfRecord)));
/** Three records of different lengths, so that their offsets differ. */
const THREE = ["first record", "the second record", "third"].map(bytes);
const THREE_FRAMED = framed(...THREE);
/** Offsets of records 1 and 2. */
const SECOND_START = 12 + 12 + 4;
const THIRD_START = SECOND_START + 12 + 17 + 4;

function flipped(original: Uint8Array, position: number, mask = 0x01): Uint8Array {
  const damaged = original.slice();
  damaged[position] = (damaged[position] as number) ^ mask;
  return damaged;
}

/** Returns a record header with a valid checksum and any length. */
function headerOf(length: bigint): Uint8Array {
  const header = new DataView(new ArrayBuffer(12));
  header.setBigUint64(0, length, true);
  header.setUint32(8, maskedCrc32c(new Uint8Array(header.buffer, 0, 8)), true);
  return new Uint8Array(header.buffer);
}

function written(t: TestContext, content: Uint8Array, name = "shard.tfrecord"): string {
  const path = join(temporaryFolder(t), name);
  writeFileSync(path, content);
  return path;
}

const readAll = (path: string) => collect(readTfRecordFile(path), copy);

describe("valid files", () => {
  test("reads the same four records from TensorFlow's plain, gzip and zlib shards", async () => {
    const plain = await readAll(goldenData("train0000.tfrecord"));
    assert.equal(plain.length, 4);
    assert.deepEqual(framed(...plain), new Uint8Array(readFileSync(goldenData("train0000.tfrecord"))));
    assert.deepEqual(await readAll(goldenData("train0000.tfrecord.gz")), plain);
    assert.deepEqual(await readAll(goldenData("train0000.tfrecord.zlib")), plain);
  });

  test("detects compression by content, not by name", async (t) => {
    for (const packed of [THREE_FRAMED, gzipSync(THREE_FRAMED), deflateSync(THREE_FRAMED), deflateSync(THREE_FRAMED, { level: 1 })]) {
      assert.deepEqual(await readAll(written(t, packed)), THREE.map(Buffer.from));
    }
  });

  test("accepts zero padding after a compressed shard, rejects other bytes, and does not hang", { timeout: 20_000 }, async (t) => {
    for (const pack of [gzipSync, deflateSync]) {
      const plain = await readAll(written(t, THREE_FRAMED));
      for (const count of [1, 512, 300_000]) {
        const padded = Buffer.concat([pack(THREE_FRAMED), Buffer.alloc(count)]);
        assert.deepEqual(await readAll(written(t, padded)), plain);
        const spoiled = Buffer.concat([padded, Buffer.from("x")]);
        await failsWith(readAll(written(t, spoiled)), "CORRUPT_RECORD");
      }
    }
  });

  test("an empty file, gzip or zlib stream has no records; an empty gzip member is not the end", async (t) => {
    const levels = [0, 1, 6, 9].map((level) => ({ level }));
    for (const empty of [new Uint8Array(0), ...levels.flatMap((level) => [gzipSync("", level), deflateSync("", level)])]) {
      assert.deepEqual(await readAll(written(t, empty)), []);
    }
    const members = [gzipSync(""), gzipSync(THREE_FRAMED), gzipSync("")];
    assert.deepEqual(await readAll(written(t, Buffer.concat(members))), THREE.map(Buffer.from));
    assert.deepEqual(await readAll(written(t, Buffer.concat([gzipSync(""), gzipSync("")]))), []);
    await failsWith(readAll(written(t, gzipSync("").subarray(0, 15))), "CORRUPT_RECORD");
    await failsWith(readAll(written(t, deflateSync("").subarray(0, 6))), "CORRUPT_RECORD");
  });

  test("reads concatenated gzip members as one file", async (t) => {
    const members = Buffer.concat([gzipSync(THREE_FRAMED.subarray(0, 40)), gzipSync(THREE_FRAMED.subarray(40))]);
    assert.deepEqual(await readAll(written(t, members)), THREE.map(Buffer.from));
  });

  test("reports record indices and offsets of the uncompressed file", async (t) => {
    const places = await collect(readTfRecordFile(written(t, gzipSync(THREE_FRAMED))), ({ record, byteOffset }) => [record, byteOffset]);
    assert.deepEqual(places, [
      [0, 12],
      [1, SECOND_START + 12],
      [2, THIRD_START + 12],
    ]);
  });

  test("reads records longer than the buffer, from input split into any pieces", async () => {
    const large = new Uint8Array(5_000_001).map((_, index) => index * 7);
    assert.deepEqual(
      await collect(
        readTfRecords(async () => memorySource(framed(bytes("small"), large, bytes("last"))), "x"),
        copy,
      ),
      [Buffer.from("small"), Buffer.from(large), Buffer.from("last")],
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.uint8Array({ maxLength: 60 }), { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 70 }),
        async (records, piece) => {
          assert.deepEqual(
            await collect(
              readTfRecords(async () => memorySource(framed(...records), piece), "x"),
              copy,
            ),
            records.map(Buffer.from),
          );
        },
      ),
      { numRuns: 150 },
    );
  });

  test("Python reads what was written, with its own checksum", () => {
    const script = `
import struct, sys
table = []
for n in range(256):
    for _ in range(8):
        n = (n >> 1) ^ 0x82F63B78 if n & 1 else n >> 1
    table.append(n)
def masked(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
data = sys.stdin.buffer.read()
while data:
    length, check = struct.unpack("<QI", data[:12])
    assert masked(data[:8]) == check
    record = data[12 : 12 + length]
    assert struct.unpack("<I", data[12 + length : 16 + length])[0] == masked(record)
    print(record.decode())
    data = data[16 + length :]
`;
    const { stdout, stderr } = spawnSync("python3", ["-c", script], { input: THREE_FRAMED, encoding: "utf8" });
    assert.equal(stderr, "");
    assert.equal(stdout, "first record\nthe second record\nthird\n");
  });
});

describe("corrupt files", () => {
  test("a flipped byte in the data: yields the records before it, then reports both checksums, the record and its offset", async (t) => {
    const file = written(t, flipped(THREE_FRAMED, SECOND_START + 15));
    const given: Buffer[] = [];
    const reading = (async () => {
      for await (const record of readTfRecordFile(file)) given.push(copy(record));
    })();
    const error = await failsWith(reading, "CORRUPT_RECORD", { file, record: 1, byteOffset: SECOND_START });
    assert.match(
      error.message,
      /checksum of the record's data does not match \(expected 0x[0-9a-f]{8}, found 0x[0-9a-f]{8}\)\. Download the shard again/,
    );
    assert.deepEqual(given, [Buffer.from("first record")]);
  });

  test("a flipped byte in a later record's length", async (t) => {
    for (const byte of [0, 3, 7, 9]) {
      const file = written(t, flipped(THREE_FRAMED, THIRD_START + byte));
      const error = await failsWith(readAll(file), "CORRUPT_RECORD", { file, record: 2, byteOffset: THIRD_START });
      assert.match(error.message, /checksum of the record's length/);
      assert.equal(error.details.damaged, "rest of shard");
    }
  });

  test("a flipped byte in the first record's header: looks like another file type, and no policy skips it", async (t) => {
    for (const byte of [0, 3, 7, 9]) {
      const file = written(t, flipped(THREE_FRAMED, byte));
      const error = await failsWith(readAll(file), "NOT_TFRECORD", { file, byteOffset: 0 });
      assert.match(
        error.message,
        /not a TFRecord file, or its first bytes are corrupt.*, download the shard again, or remove it from the list\.$/,
      );
      assert.equal(error.details.damaged, undefined);
    }
  });

  test("a file truncated at any byte: reports the record and how many of its bytes are present", async () => {
    for (let length = 1; length < THREE_FRAMED.length; length++) {
      const record = [SECOND_START, THIRD_START, Infinity].findIndex((start) => length <= start);
      const whole = length === SECOND_START || length === THIRD_START;
      const reading = collect(readTfRecords(async () => memorySource(THREE_FRAMED.subarray(0, length)), "x"));
      if (whole) assert.equal((await reading).length, record + 1);
      else if (length < 12) await failsWith(reading, "NOT_TFRECORD");
      else {
        const error = await failsWith(reading, "CORRUPT_RECORD", { record });
        assert.match(error.message, /ends in the middle of a record \(expected \d+ bytes, found \d+ bytes\)\. Download the shard again/);
      }
    }
  });

  test("rejects a length of 2^60 with a valid checksum without allocating memory", async (t) => {
    const before = process.memoryUsage().arrayBuffers;
    for (const length of [2n ** 60n, 2n ** 64n - 1n, 2n ** 28n + 1n]) {
      const file = written(t, new Uint8Array(Buffer.concat([THREE_FRAMED, headerOf(length), Buffer.alloc(50)])));
      const error = await failsWith(readAll(file), "CORRUPT_RECORD", { record: 3, byteOffset: THREE_FRAMED.length });
      assert.match(error.message, /the record's length exceeds the maximum \(expected at most 268435456 bytes, found/);
    }
    // An allowed length that exceeds the file costs no more memory than the file.
    await failsWith(readAll(written(t, new Uint8Array([...headerOf(2n ** 28n), 1, 2, 3]))), "CORRUPT_RECORD", { record: 0, byteOffset: 0 });
    assert.ok(process.memoryUsage().arrayBuffers - before < 100e6);
  });

  test("a corrupt or truncated gzip file: reports the record that could not be read", async (t) => {
    // Stored without compression, so that the position of the cut in the data is known.
    const stored = new Uint8Array(gzipSync(THREE_FRAMED, { level: 0 }));
    const cut = await failsWith(readAll(written(t, stored.subarray(0, stored.length - 20))), "CORRUPT_RECORD", {
      record: 2,
      byteOffset: THIRD_START,
    });
    assert.match(cut.message, /gzip data is corrupt or truncated: unexpected end of file/);
    // A corruption is located only to within zlib's last buffer, so two records of 600 KB precede it.
    const long = new Uint8Array(600_000).map((_, index) => (index * index) >> 5);
    const longer = new Uint8Array(gzipSync(framed(long, long, ...THREE), { level: 0 }));
    const check = await failsWith(readAll(written(t, flipped(longer, longer.length - 7))), "CORRUPT_RECORD");
    assert.match(check.message, /incorrect data check/);
    assert.ok((check.details.record as number) >= 1, check.message);
    const zlib = new Uint8Array(deflateSync(THREE_FRAMED));
    assert.match((await failsWith(readAll(written(t, zlib.subarray(0, 20))), "CORRUPT_RECORD", { record: 0 })).message, /zlib data/);
  });

  test("detects any changed byte (in gzip: unless it has no effect), and throws only NextvladError", async (t) => {
    const path = written(t, THREE_FRAMED);
    const packings = [THREE_FRAMED, new Uint8Array(gzipSync(THREE_FRAMED)), new Uint8Array(deflateSync(THREE_FRAMED))];
    await fc.assert(
      fc.asyncProperty(fc.nat(2), fc.nat(), fc.integer({ min: 1, max: 255 }), async (packing, position, mask) => {
        const whole = packings[packing] as Uint8Array;
        writeFileSync(path, flipped(whole, position % whole.length, mask));
        try {
          const records = await readAll(path);
          assert.notEqual(packing, 0, "the change went unseen");
          assert.deepEqual(records, THREE.map(Buffer.from));
        } catch (error) {
          if (!(error instanceof NextvladError)) throw error;
        }
      }),
      { numRuns: 300 },
    );
  });

  test("rejects random bytes with NextvladError", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 100 }), fc.boolean(), async (noise, behindRecord) => {
        const content = behindRecord ? new Uint8Array([...THREE_FRAMED, ...noise]) : noise;
        if (noise.length === 0) return;
        await assert.rejects(collect(readTfRecords(async () => memorySource(content), "x")), NextvladError);
      }),
      { numRuns: 200 },
    );
  });
});

describe("other file types", () => {
  test("a text file, a web page, a compressed text file", async (t) => {
    for (const text of ["train0000.tfrecord\ntrain0001.tfrecord\n", "<html>\r\n<body>Access denied</body>", "a"]) {
      for (const content of [bytes(text), new Uint8Array(gzipSync(text))]) {
        const error = await failsWith(readAll(written(t, content)), "NOT_TFRECORD");
        assert.match(error.message, /this is a text file, not a TFRecord file \(found "/);
      }
    }
  });

  test("names the file type by the first bytes, and never skips the file", async (t) => {
    const folder = temporaryFolder(t);
    // Python writes the archives, with its modules zipfile, tarfile, lzma and bz2.
    const script = `
import bz2, io, lzma, struct, sys, tarfile, zipfile, json
folder = sys.argv[1]
with zipfile.ZipFile(folder + "/a zip archive", "w") as file: file.writestr("a.tfrecord", b"x" * 600)
zipfile.ZipFile(folder + "/a zip archive.empty", "w").close()
for mode in ["", ":gz"]:
    with tarfile.open(folder + "/a tar archive" + mode.replace(":", "."), "w" + mode) as file:
        file.addfile(tarfile.TarInfo("a.tfrecord"), io.BytesIO(b""))
open(folder + "/an xz file", "wb").write(lzma.compress(b"x" * 100))
open(folder + "/a bzip2 file", "wb").write(bz2.compress(b"x" * 100))
open(folder + "/a bzip2 file.empty", "wb").write(bz2.compress(b""))
header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
open(folder + "/a safetensors file (weights)", "wb").write(struct.pack("<Q", len(header)) + header + bytes(4))
`;
    assert.equal(spawnSync("python3", ["-c", script, folder], { encoding: "utf8" }).stderr, "");
    writeFileSync(join(folder, "a zstd file"), Buffer.from("28b52ffd0458910000", "hex"));
    writeFileSync(join(folder, "a numpy array (.npy)"), Buffer.concat([Buffer.from("934e554d505901007600", "hex"), Buffer.alloc(118)]));
    writeFileSync(join(folder, "an ONNX model"), Buffer.concat([Buffer.from("08081207", "hex"), Buffer.from("pytorch\x1a\x05")]));
    writeFileSync(join(folder, "a gzip file.gz"), gzipSync(gzipSync("x")));
    const { examples } = JSON.parse(readFileSync(goldenData("float_features.json"), "utf8")) as { examples: Record<string, string> };
    const mediaPipe = "a SequenceExample outside a TFRecord (as MediaPipe's features.pb)";
    writeFileSync(join(folder, mediaPipe), Buffer.from(examples["MediaPipe's keys"] as string, "base64"));
    const names = readdirSync(folder);
    assert.equal(names.length, 13);
    for (const name of names) {
      const error = await failsWith(readAll(join(folder, name)), "NOT_TFRECORD", { file: join(folder, name) });
      assert.ok(error.what === `this is ${name.replace(/\.(gz|empty)$/, "")}, not a TFRecord file`, error.message);
      assert.equal(error.details.damaged, undefined);
      assert.equal(/Unpack it and/.test(error.message), /archive|an xz|bzip2|zstd|gzip/.test(name), error.message);
    }
    const pickle = bytes("\x80\x02]q\x00}q\x01(X\x05\x00\x00\x00video");
    const unknown = await failsWith(readAll(written(t, pickle)), "NOT_TFRECORD", { byteOffset: 0 });
    assert.match(unknown.message, /expected a record length and its checksum, found 80 02 5d 71/);
  });

  test("a missing file and a directory", async (t) => {
    const folder = temporaryFolder(t);
    await failsWith(readAll(join(folder, "none")), "FILE_MISSING", { file: join(folder, "none") });
    await failsWith(readAll(folder), "FILE_UNREADABLE", { file: folder });
  });
});

test("closes the file when the consumer stops early or fails", async (t) => {
  const openFiles = () => readdirSync("/proc/self/fd").length;
  const whole = written(t, gzipSync(THREE_FRAMED));
  const damaged = written(t, flipped(THREE_FRAMED, 14));
  const before = openFiles();
  for await (const _ of readTfRecordFile(whole)) break;
  await assert.rejects(readAll(damaged));
  assert.equal(openFiles(), before);
});

test("rejects a record longer than the limit and names the option; a higher limit reads it", async (t) => {
  const path = written(t, framed(bytes("short"), new Uint8Array(1000)));
  const error = await failsWith(collect(readTfRecordFile(path, { maxRecordBytes: 999 }), copy), "CORRUPT_RECORD", {
    file: path,
    record: 1,
  });
  assert.match(
    error.message,
    /\(expected at most 999 bytes, found 1000 bytes\).*use --max-record-bytes \(or --set MODEL\.max_record_bytes=SIZE\)/,
  );
  assert.equal((await collect(readTfRecordFile(path, { maxRecordBytes: 1000 }), copy)).length, 2);
});

test("releasing a long record frees its memory, and the next record is read", async () => {
  const long = new Uint8Array(40 << 20).fill(7);
  const content = framed(long, bytes("after"), long, bytes("end"));
  const lengths: number[] = [];
  let position = 0;
  const source = {
    get filePosition() {
      return position;
    },
    isExact: true,
    async read(target: Uint8Array) {
      const piece = content.subarray(position, position + target.length);
      target.set(piece);
      position += piece.length;
      return piece.length;
    },
    skip: async () => undefined,
    close: async () => undefined,
  };
  for await (const record of readTfRecords(async () => source, "x.tfrecord")) {
    lengths.push(record.data.length);
    assert.equal(record.data[0], record.data.length === long.length ? 7 : bytes("ae")[lengths.length / 2 - 1]);
    const before = process.memoryUsage().arrayBuffers;
    record.release?.();
    if (record.data.length === 0) assert.ok(before - process.memoryUsage().arrayBuffers > 30e6 || lengths.at(-1) === long.length);
  }
  assert.deepEqual(lengths, [long.length, 5, long.length, 3]);
});

test("decompresses a gzip shard on demand, not ahead of the reader", async (t) => {
  const packed = new Uint8Array(gzipSync(framed(bytes("first"), new Uint8Array(100 << 20)), { level: 9 }));
  const path = written(t, packed);
  const before = process.memoryUsage().arrayBuffers;
  let read = 0;
  for await (const record of readTfRecordFile(path)) {
    if (read === 0) assert.ok(process.memoryUsage().arrayBuffers - before < 24e6, String(process.memoryUsage().arrayBuffers - before));
    read += record.data.length;
  }
  assert.equal(read, 5 + (100 << 20));
});

async function walk(path: string, isOver = () => false, areShort = false): Promise<string> {
  const handle = await open(path);
  const readAll = handle.read.bind(handle);
  // Like some network file systems: each read returns half of the requested bytes.
  const readHalf = (buffer: Uint8Array, offset: number, length: number, position: number) =>
    readAll(buffer, offset, Math.ceil(length / 2), position);
  if (areShort) Object.assign(handle, { read: readHalf });
  try {
    return await walkRecordHeaders(handle, { path, bytes: (await handle.stat()).size }, isOver);
  } finally {
    await handle.close();
  }
}

test("walks headers: detects corrupt lengths and truncation like the reader, and ignores corrupt data", async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, "whole.tfrecord");
  // Short records, with many headers in one read; records of a block or more, whose headers are read one by one; and an empty record.
  const sizes = [...Array.from({ length: 3000 }, (_, i) => i % 90), 200_000, 65_520, 0, 65_536, 130_000, 7];
  writeFileSync(path, Buffer.concat(sizes.map((size) => encodeTfRecord(new Uint8Array(size).fill(size % 251)))));
  assert.equal(await walk(path), "complete");
  assert.equal(await walk(path, undefined, true), "complete");
  const bad = join(folder, "bad.tfrecord");
  const damages: ((record: number) => void)[] = [
    (record) => corruptLength(bad, record),
    (record) => truncateSync(bad, (recordOffsets(bad)[record] as number) + 5),
    (record) => truncateSync(bad, (recordOffsets(bad)[record] as number) + 13),
    (record) => truncateSync(bad, (recordOffsets(bad)[record + 1] ?? statSync(bad).size) - 1),
  ];
  for (const damage of damages) {
    for (const record of [1, 2999, 3000, 3001, 3004, 3005]) {
      copyFileSync(path, bad);
      damage(record);
      const { message } = await failsWith(
        collect(readTfRecordFile(bad), () => null),
        "CORRUPT_RECORD",
        { record },
      );
      assert.equal((await failsWith(walk(bad), "CORRUPT_RECORD", { record, damaged: "rest of shard" })).message, message);
    }
  }
  copyFileSync(path, bad);
  corruptData(bad, 3000);
  assert.equal(await walk(bad), "complete");
  appendFileSync(bad, "\0");
  await failsWith(walk(bad), "CORRUPT_RECORD", { record: sizes.length, expected: "12 bytes", found: "1 bytes" });
});

test("walks headers: skips files that are not uncompressed TFRecord files, and stops when asked to", async (t) => {
  const path = join(temporaryFolder(t), "a.tfrecord");
  writeFileSync(path, Buffer.concat(Array.from({ length: 10 }, () => encodeTfRecord(new Uint8Array(30)))));
  let asked = 0;
  assert.equal(await walk(path, () => ++asked > 5), "interrupted");
  assert.equal(asked, 6);
  truncateRecord(path, 3);
  for (const content of [gzipSync(readFileSync(path)), Buffer.alloc(0), Buffer.from("train0.tfrecord\n")]) {
    writeFileSync(path, content);
    assert.equal(await walk(path), "skipped");
  }
});

describe("records to skip", () => {
  const RECORDS = Array.from({ length: 12 }, (_, i) => new Uint8Array(i % 4 === 3 ? 300_000 : 1000).fill(i));

  /** Reads all records but those to skip; returns them, the positions of the skipped ones, and the number of bytes read. */
  async function readOthers(path: string, isSkipped: (record: number) => boolean, next?: (record: number) => PlacedRecord | null) {
    const ends: number[] = [];
    let bytesRead = 0;
    const openSource = async (file: string, headBytes: number): Promise<OpenedSource> => {
      const { source, head } = await openFileSource(file, headBytes);
      const read = async (target: Uint8Array, at: RecordPlace): Promise<number> => {
        const count = await source.read(target, at);
        bytesRead += count;
        return count;
      };
      return { head, source: Object.create(source, { read: { value: read } }) as ByteSource };
    };
    const skip = { isSkipped, onSkipped: (end: number) => void ends.push(end), ...(next && { next }) };
    const records = await collect(readTfRecordFile(path, { openSource, skip }), ({ record, data, filePosition }) => {
      return { record, data: new Uint8Array(data), filePosition };
    });
    return { records, ends, bytesRead };
  }

  test("are neither verified nor, in a file that is not compressed, read", async (t) => {
    const path = written(t, framed(...RECORDS));
    const all = await readOthers(path, () => false);
    const ends = all.records.map(({ filePosition }) => filePosition);
    const wanted = new Set([0, 6]);
    for (let record = 0; record < RECORDS.length; record++) if (!wanted.has(record)) corruptData(path, record);
    const others = await readOthers(path, (record) => !wanted.has(record));
    assert.deepEqual(
      others.records,
      all.records.filter(({ record }) => wanted.has(record)),
    );
    assert.deepEqual(
      others.ends,
      ends.filter((_, record) => !wanted.has(record)),
    );
    const none = await readOthers(path, () => true);
    assert.deepEqual([none.records, none.ends], [[], ends]);
    assert.ok(none.bytesRead < 4 * 64 * 1024, `${none.bytesRead} bytes`);
    const packed = written(t, new Uint8Array(gzipSync(readFileSync(path))), "packed");
    assert.deepEqual(
      (await readOthers(packed, (record) => !wanted.has(record))).records.map(({ data }) => data),
      [RECORDS[0], RECORDS[6]],
    );
  });

  test("are not even found by their headers if the place of the next record is known, which alone is then read", async (t) => {
    const path = written(t, framed(...RECORDS));
    const all = await readOthers(path, () => false);
    const begins = [0, ...all.records.map(({ filePosition }) => filePosition)];
    const extentOf = (record: number) => {
      const [offset = 0, end = 0] = begins.slice(record, record + 2);
      return { record, offset, bytes: end - offset };
    };
    // Their headers are corrupt too.
    for (const record of [5, 9]) corruptLength(path, record);
    const wanted = [3, 8, 11];
    const next = (record: number) => {
      const found = wanted.find((index) => index >= record);
      return found === undefined ? null : extentOf(found);
    };
    const others = await readOthers(path, (record) => !wanted.includes(record), next);
    assert.deepEqual(
      others.records,
      all.records.filter(({ record }) => wanted.includes(record)),
    );
    const bytes = wanted.reduce((sum, record) => sum + extentOf(record).bytes, 0);
    assert.ok(others.bytesRead < bytes + 64 * 1024, `${others.bytesRead} bytes instead of ${bytes}`);
  });

  test("must be complete, with valid lengths", async (t) => {
    for (const record of [10, 11]) {
      for (const damage of [truncateRecord, corruptLength]) {
        const path = written(t, framed(...RECORDS));
        damage(path, record);
        await failsWith(
          readOthers(path, () => true),
          "CORRUPT_RECORD",
          { file: path, record },
        );
      }
    }
    // The file ends within the checksum after the data.
    const content = framed(...RECORDS);
    await failsWith(
      readOthers(written(t, content.subarray(0, content.length - 1)), () => true),
      "CORRUPT_RECORD",
      { record: 11 },
    );
  });
});
