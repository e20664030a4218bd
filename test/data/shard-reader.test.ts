import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { readUnframedExample } from "../../src/data/shard-reader.js";
import { temporaryFolder } from "../helpers/files.js";

test("a file of one SequenceExample is one record, whether it starts with its context or its feature lists; any other file is not", async (t) => {
  const file = join(temporaryFolder(t), "features.pb");
  const read = async (bytes: Uint8Array) => {
    writeFileSync(file, bytes);
    return readUnframedExample(file);
  };
  // A context (field 1) or feature lists (field 2) of one map entry, whose key is "a".
  for (const tag of [0x0a, 0x12]) {
    const data = Buffer.of(tag, 5, 0x0a, 3, 0x0a, 1, 0x61);
    assert.deepEqual(await read(data), { data, file, record: 0, byteOffset: 0, filePosition: data.length });
  }
  for (const bytes of [[], [0x0a, 5, 0x12, 3, 0x0a, 1, 0x61], [0x0a, 5, 0x0a], [0x13, 5, 0x0a, 3, 0x0a, 1, 0x61]])
    assert.equal(await read(Uint8Array.from(bytes)), null, `${bytes}`);
});
