import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { zipSync } from "fflate";
import { NextvladError } from "../../src/base/errors.js";
import { NpzFile, readNpz } from "../../src/formats/npz.js";
import { failsWith, temporaryFolder } from "../helpers/shards.js";

interface GoldenFile {
  readonly name: string;
  /** base64, as numpy wrote it. */
  readonly file: string;
  readonly arrays: Record<string, { readonly dtype: string; readonly shape: readonly number[]; readonly values: readonly number[] }>;
}

const goldenFiles = JSON.parse(
  readFileSync(new URL("../../../test/golden/features/npz.json", import.meta.url), "utf8"),
) as readonly GoldenFile[];

describe("arrays that numpy wrote", () => {
  for (const { name, file: base64, arrays } of goldenFiles) {
    test(name, async (t) => {
      const file = join(temporaryFolder(t), "x.npz");
      writeFileSync(file, Buffer.from(base64, "base64"));
      for (const [key, { dtype, shape, values }] of Object.entries(arrays)) {
        const array = await readNpz(file, (names) => {
          assert.deepEqual(names, Object.keys(arrays));
          return key;
        });
        assert.deepEqual([array.dtype, array.shape, [...array.data]], [dtype.slice(1), shape, values]);
      }
    });
  }
});

test("an array that is not there, no file, a directory, another file", async (t) => {
  const folder = temporaryFolder(t);
  const file = join(folder, "x.npz");
  writeFileSync(file, Buffer.from((goldenFiles[0] as GoldenFile).file, "base64"));
  await failsWith(
    readNpz(file, () => "video"),
    "BAD_FORMAT",
    { file, key: "video" },
  );
  await failsWith(
    readNpz(join(folder, "none"), () => "rgb"),
    "FILE_MISSING",
  );
  await failsWith(
    readNpz(folder, () => "rgb"),
    "FILE_UNREADABLE",
  );
  for (const content of ["", "no zip", "PK\x05\x06"]) {
    writeFileSync(file, content);
    await failsWith(
      readNpz(file, () => "rgb"),
      "BAD_FORMAT",
      { file },
    );
  }
});

test("a damaged file gives the same array or an error: nothing changed passes the checksum", async (t) => {
  const file = join(temporaryFolder(t), "x.npz");
  for (const { file: base64, arrays } of goldenFiles.slice(0, 2)) {
    const whole = Buffer.from(base64, "base64");
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), fc.nat(2 * whole.length), async (at, flip, length) => {
        const damaged = Uint8Array.from(whole).subarray(0, length);
        if (at < damaged.length) damaged[at] = (damaged[at] as number) ^ flip;
        writeFileSync(file, damaged);
        try {
          const { shape, data } = await readNpz(file, (names) => names.find((name) => name === "rgb") ?? "rgb");
          assert.deepEqual([shape, [...data]], [arrays.rgb?.shape, arrays.rgb?.values]);
        } catch (error) {
          assert.ok(error instanceof NextvladError && error.code === "BAD_FORMAT", String(error));
        }
      }),
      { numRuns: 250 },
    );
  }
});

test("a .npz file with more than 10,000 entries is refused", async (t) => {
  const path = join(temporaryFolder(t), "many.npz");
  const entries = Object.fromEntries(Array.from({ length: 10_001 }, (_, i) => [`a${i}.npy`, new Uint8Array(0)]));
  writeFileSync(path, zipSync(entries, { level: 0 }));
  assert.match(
    (await failsWith(NpzFile.open(path), "BAD_FORMAT", { file: path })).message,
    /too many entries \(expected at most 10000, found more\)/,
  );
});
