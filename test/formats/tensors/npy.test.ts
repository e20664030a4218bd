import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../../src/base/errors.js";
import { type NpyArray, readNpy } from "../../../src/formats/tensors/npy.js";

interface GoldenArray {
  readonly name: string;
  /** base64, as numpy wrote it. */
  readonly file: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  /** In row-major order, as Python prints them. */
  readonly values: readonly string[];
}

const goldenArrays = JSON.parse(
  readFileSync(new URL("../../../../test/golden/formats/npy.json", import.meta.url), "utf8"),
) as GoldenArray[];

let file: string;
before(() => {
  file = join(mkdtempSync(join(tmpdir(), "npy-")), "array.npy");
});
after(() => rmSync(join(file, ".."), { recursive: true }));

function read(bytes: Uint8Array): Promise<NpyArray> {
  writeFileSync(file, bytes);
  return readNpy(file);
}

function numberOf(text: string): number {
  return Number(text.replace("nan", "NaN").replace("inf", "Infinity"));
}

function isBadFormat(error: unknown): boolean {
  return error instanceof NextvladError && error.code === "BAD_FORMAT" && error.message.includes(file);
}

describe("arrays that numpy wrote", () => {
  for (const { name, file: base64, dtype, shape, values } of goldenArrays) {
    test(name, async () => {
      const bytes = Buffer.from(base64, "base64");
      if (name.startsWith("refused")) {
        await assert.rejects(read(bytes), isBadFormat);
        return;
      }
      const array = await read(bytes);
      assert.equal(array.dtype, dtype === "<f2" ? "f4" : dtype.slice(1));
      assert.deepEqual(array.shape, shape);
      assert.deepEqual([...array.data], array.dtype === "i8" ? values.map(BigInt) : values.map(numberOf));
    });
  }
});

/** Returns a version 1 file with this header and these bytes of data. */
function npyFile(header: string, data: Uint8Array): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16LE(header.length);
  return Buffer.concat([Buffer.from("\x93NUMPY\x01\x00", "latin1"), length, Buffer.from(header, "latin1"), data]);
}

test("reads headers of other writers: any key order, double quotes, Python 2's longs, no padding", async () => {
  for (const header of [
    "{'shape': (2L, 1L), 'fortran_order': False, 'descr': '<f4'}",
    '{"fortran_order":False,"descr":"<f4","shape":(2,1)}',
    "{'descr' : '<f4' , 'fortran_order' : False , 'shape' : ( 2 , 1 , ) }\n",
  ]) {
    const { shape, data } = await read(npyFile(header, new Uint8Array(Float32Array.of(3, 4).buffer)));
    assert.deepEqual({ shape, data: [...data] }, { shape: [2, 1], data: [3, 4] });
  }
});

test("rejects unsupported types and says what to save instead", async () => {
  const advice: Readonly<Record<string, RegExp>> = {
    "|i1": /found \|i1\)\. Int8 is ambiguous: save the float features, or, .*\+ 128\)\.astype\('\|u1'\)\.$/,
    "|O": /Python objects.*numpy\.stack\(list\(array\)\)\.astype\('<f4'\)\.$/,
    ">f4": /array\.dtype\.newbyteorder\('<'\)/,
    ">i8": /array\.dtype\.newbyteorder\('<'\)/,
    "<u2": /array\.astype\('\|u1'\) if every value is in 0\.\.255/,
    "<f16": /array\.astype\('<f8'\)/,
    "|b1": /array\.astype\('<f4'\)/,
    "<c8": /an array of real numbers/,
    "<U3": /an array of real numbers/,
  };
  for (const [descr, message] of Object.entries(advice)) {
    const file = npyFile(`{'descr': '${descr}', 'fortran_order': False, 'shape': (1,)}`, new Uint8Array(8));
    await assert.rejects(read(file), (error) => isBadFormat(error) && message.test((error as NextvladError).message), descr);
  }
});

test("rejects invalid headers", async () => {
  const header = (descr: string, order: string, shape: string): string =>
    `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': ${shape}, }`;
  const data = new Uint8Array(8);
  const good = npyFile(header("<f4", "False", "(2,)"), data);
  await read(good);
  const bad: readonly Uint8Array[] = [
    npyFile(header("<f4", "False", "(3,)"), data),
    npyFile(header("<f4", "False", "(1,)"), data),
    npyFile(header("<f4", "False", "(-2,)"), data),
    npyFile(header("<f4", "False", "(2.0,)"), data),
    npyFile(header("<f4", "False", "2"), data),
    npyFile(header("<f4", "False", "(99999999999999999999, 99999999999999999999)"), data),
    npyFile(header("<f4", "False", "(0, 1e400)"), data),
    npyFile(header("<f4", "Maybe", "(2,)"), data),
    npyFile(header("|O", "False", "(2,)"), data),
    npyFile(header("<f4", "True", `(2,${"1,".repeat(64)})`), data),
    npyFile("", data),
    npyFile(`${header("<f4", "False", "(2,)")}${" ".repeat(10_000)}`, data),
    npyFile(`{'shape': (${"1,".repeat(4000)}x`, data),
    good.subarray(0, 9),
    good.subarray(0, 40),
    good.subarray(0, -1),
    Buffer.concat([good, data]),
    good.with(6, 4),
    good.with(6, 0),
    good.with(9, 255),
    good.with(0, 0),
    new Uint8Array(0),
  ];
  for (const [i, bytes] of bad.entries()) await assert.rejects(read(bytes), isBadFormat, `bad file ${i} was read`);
});

test("a corrupt file gives an array or BAD_FORMAT, never another error", async () => {
  const files = goldenArrays.map(({ file: base64 }) => Buffer.from(base64, "base64"));
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...files),
      fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      fc.nat(300),
      async (bytes, flips, cut) => {
        const damaged = Uint8Array.from(cut < 100 ? bytes.subarray(0, cut) : bytes);
        for (const [at, value] of flips) if (at < damaged.length) damaged[at] = value;
        try {
          const { shape, data } = await read(damaged);
          assert.equal(
            data.length,
            shape.reduce((product, side) => product * side, 1),
          );
        } catch (error) {
          assert.ok(isBadFormat(error), String(error));
        }
      },
    ),
    { numRuns: 500 },
  );
});

test("rejects a file truncated at any byte", async () => {
  for (const { file: base64, name } of goldenArrays.slice(0, 3)) {
    const whole = Buffer.from(base64, "base64");
    for (let length = 0; length < whole.length; length++)
      await assert.rejects(read(whole.subarray(0, length)), isBadFormat, `${name}, ${length}`);
  }
});

test("reports a missing file and a directory", async () => {
  await assert.rejects(readNpy(`${file}-none`), (error) => error instanceof NextvladError && error.code === "FILE_MISSING");
  await assert.rejects(readNpy(join(file, "..")), (error) => error instanceof NextvladError && error.code === "FILE_UNREADABLE");
});
