import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { NextvladError } from "../../src/base/errors.js";
import { readIdx, readMnist } from "../../src/digits/mnist.js";

test("MNIST has the published number of images of each digit", async () => {
  const [train, test] = await Promise.all([readMnist("train"), readMnist("t10k")]);
  assert.deepEqual(
    train.imagesOf.map((images) => images.length),
    [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
  );
  assert.deepEqual(
    test.imagesOf.map((images) => images.length),
    [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
  );
  assert.equal(train.pixels.length, 60_000 * 784);
});

test("a file that is not an IDX file, or a truncated one, is rejected", async () => {
  const folder = mkdtempSync(join(tmpdir(), "mnist-"));
  const file = join(folder, "images");
  const good = [0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 9, 8, 7, 6];
  try {
    writeFileSync(file, Uint8Array.from(good));
    assert.deepEqual([...(await readIdx(file, [2, 2]))], [9, 8, 7, 6]);
    const bad = [
      [],
      good.slice(0, 15),
      good.slice(0, -1),
      [...good, 0],
      [1, ...good.slice(1)],
      good.with(7, 2),
      good.with(11, 3),
      good.with(4, 255),
    ];
    for (const bytes of bad) {
      writeFileSync(file, Uint8Array.from(bytes));
      await assert.rejects(
        readIdx(file, [2, 2]),
        (error) => error instanceof NextvladError && error.code === "BAD_FORMAT" && error.message.includes(file),
      );
    }
    await assert.rejects(readIdx(join(folder, "none"), []), (error) => error instanceof NextvladError && error.code === "FILE_MISSING");
  } finally {
    rmSync(folder, { recursive: true });
  }
});
