import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { NextvladError } from "../../../src/base/errors.js";
import { FileReader } from "../../../src/formats/containers/file-reader.js";
import { temporaryFolder } from "../../helpers/files.js";
import { failsWith } from "../../helpers/shards.js";

async function readAll(file: string): Promise<Uint8Array> {
  const bytes = await FileReader.open(file);
  try {
    return await bytes.readAll();
  } finally {
    await bytes.close();
  }
}

test("reads and skips a plain or gzip file in pieces of any size", async (t) => {
  const file = join(temporaryFolder(t), "x");
  const steps = fc.array(fc.tuple(fc.boolean(), fc.nat(1500)), { maxLength: 8 });
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 4000 }), fc.boolean(), steps, async (content, packed, pieces) => {
      // Content that starts like gzip would be decompressed.
      fc.pre(content[0] !== 0x1f);
      writeFileSync(file, packed ? gzipSync(content) : content);
      const bytes = await FileReader.open(file);
      try {
        for (const [skipped, length] of pieces) {
          const expected = Buffer.from(content.subarray(bytes.position, bytes.position + length));
          const target = new Uint8Array(length);
          const found = skipped ? await bytes.skip(length) : await bytes.read(target);
          assert.equal(found, expected.length);
          if (!skipped) assert.deepEqual(Buffer.from(target.subarray(0, found)), expected);
        }
        const rest = Buffer.from(content.subarray(bytes.position));
        assert.deepEqual(Buffer.from(await bytes.readAll()), rest);
      } finally {
        await bytes.close();
      }
    }),
    { numRuns: 100 },
  );
});

test("rejects gzip truncated at any byte, and reads or rejects any bytes", async (t) => {
  const file = join(temporaryFolder(t), "x");
  const whole = gzipSync("frames and labels");
  for (let length = 10; length < whole.length; length++) {
    writeFileSync(file, whole.subarray(0, length));
    await failsWith(readAll(file), "BAD_FORMAT", { file });
  }
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 60 }), async (tail) => {
      writeFileSync(file, Uint8Array.of(0x1f, 0x8b, 8, ...tail));
      await readAll(file).catch((error: unknown) =>
        assert.ok(error instanceof NextvladError && error.code === "BAD_FORMAT", String(error)),
      );
    }),
    { numRuns: 200 },
  );
});
