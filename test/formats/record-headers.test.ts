import assert from "node:assert/strict";
import { appendFileSync, copyFileSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { walkRecordHeaders } from "../../src/formats/record-headers.js";
import { encodeTfRecord, readTfRecordFile } from "../../src/formats/tfrecord.js";
import { cutInside, damageData, damageLength, recordStarts } from "../helpers/damage.js";
import { collect, failsWith, temporaryFolder } from "../helpers/shards.js";

async function walk(path: string, isOver = () => false, areShort = false): Promise<string> {
  const handle = await open(path);
  const readAll = handle.read.bind(handle);
  // Like some network file systems: each read returns half of the requested bytes.
  const readHalf = (buffer: Uint8Array, offset: number, length: number, position: number) =>
    readAll(buffer, offset, Math.ceil(length / 2), position);
  if (areShort) Object.assign(handle, { read: readHalf });
  try {
    return await walkRecordHeaders(handle, path, isOver);
  } finally {
    await handle.close();
  }
}

test("finds what the reader finds in lengths and at the end, wherever a record lies, and none of the data's damage", async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, "whole.tfrecord");
  // Short records, with many headers in one read; records of a block or more, whose headers are read one by one; and an empty record.
  const sizes = [...Array.from({ length: 3000 }, (_, i) => i % 90), 200_000, 65_520, 0, 65_536, 130_000, 7];
  writeFileSync(path, Buffer.concat(sizes.map((size) => encodeTfRecord(new Uint8Array(size).fill(size % 251)))));
  assert.equal(await walk(path), "whole");
  assert.equal(await walk(path, undefined, true), "whole");
  const bad = join(folder, "bad.tfrecord");
  const damages: ((record: number) => void)[] = [
    (record) => damageLength(bad, record),
    (record) => truncateSync(bad, (recordStarts(bad)[record] as number) + 5),
    (record) => truncateSync(bad, (recordStarts(bad)[record] as number) + 13),
    (record) => truncateSync(bad, (recordStarts(bad)[record + 1] ?? statSync(bad).size) - 1),
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
  damageData(bad, 3000);
  assert.equal(await walk(bad), "whole");
  appendFileSync(bad, "\0");
  await failsWith(walk(bad), "CORRUPT_RECORD", { record: sizes.length, expected: "12 bytes", found: "1 bytes" });
});

test("skips what is not an uncompressed TFRecord file, and ends when it is asked to", async (t) => {
  const path = join(temporaryFolder(t), "a.tfrecord");
  writeFileSync(path, Buffer.concat(Array.from({ length: 10 }, () => encodeTfRecord(new Uint8Array(30)))));
  let asked = 0;
  assert.equal(await walk(path, () => ++asked > 5), "cut short");
  assert.equal(asked, 6);
  cutInside(path, 3);
  for (const content of [gzipSync(readFileSync(path)), Buffer.alloc(0), Buffer.from("train0.tfrecord\n")]) {
    writeFileSync(path, content);
    assert.equal(await walk(path), "skipped");
  }
});
