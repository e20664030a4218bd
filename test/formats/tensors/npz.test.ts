import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../../src/base/errors.js";
import { encodeZip } from "../../../src/formats/containers/zip.js";
import { encodeNpz, type NpzArray, NpzFile, readNpz } from "../../../src/formats/tensors/npz.js";
import { temporaryFolder } from "../../helpers/files.js";
import { needsPython, runPython } from "../../helpers/python.js";
import { failsWith } from "../../helpers/shards.js";

interface GoldenFile {
  readonly name: string;
  /** base64, as numpy wrote it. */
  readonly file: string;
  readonly arrays: Record<string, { readonly dtype: string; readonly shape: readonly number[]; readonly values: readonly number[] }>;
}

const goldenFiles = JSON.parse(
  readFileSync(new URL("../../../../test/golden/features/npz.json", import.meta.url), "utf8"),
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

test("reports a missing array, a missing file, a directory and another file type", async (t) => {
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

test("a corrupt file gives the same array or an error: no changed data pass the checksum", async (t) => {
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

test("rejects a .npz file with more than 10,000 entries", async (t) => {
  const path = join(temporaryFolder(t), "many.npz");
  await writeFile(path, encodeZip(Array.from({ length: 10_001 }, (_, i) => ({ name: `a${i}.npy`, parts: [] }))));
  assert.match(
    (await failsWith(NpzFile.open(path), "BAD_FORMAT", { file: path })).message,
    /too many entries \(expected at most 10000, found more\)/,
  );
});

/** Reads a .npz file as specified by numpy.lib.format, using only the standard library. */
const READ_NPZ = `
import ast, io, json, struct, sys, zipfile

found = []
with zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read())) as archive:
    assert archive.testzip() is None
    for member in archive.infolist():
        assert member.compress_type == zipfile.ZIP_STORED
        raw = archive.read(member)
        assert raw[:8] == b"\\x93NUMPY\\x01\\x00"
        length, = struct.unpack("<H", raw[8:10])
        assert (10 + length) % 64 == 0 and raw[9 + length:10 + length] == b"\\n"
        header = ast.literal_eval(raw[10:10 + length].decode("latin1"))
        assert sorted(header) == ["descr", "fortran_order", "shape"] and header["fortran_order"] is False
        found.append([member.filename, header["descr"], list(header["shape"]), raw[10 + length:].hex()])
json.dump(found, sys.stdout)
`;

async function encode(arrays: readonly NpzArray[]): Promise<Uint8Array[]> {
  const pieces: Uint8Array[] = [];
  for await (const piece of encodeNpz(arrays)) pieces.push(piece);
  return pieces;
}

const hexOf = (data: NpzArray["data"]): string => Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("hex");

test("Python's zipfile reads every array unchanged", needsPython, async () => {
  const arrays: NpzArray[] = [
    { name: "batch_norm_0.w_0", shape: [3], data: Float32Array.of(1, -0, Number.NaN) },
    { name: "matrix", shape: [2, 3], data: Float64Array.of(1, 2, 3, 4, 5, 6).subarray(0) },
    { name: "@LR_DECAY_COUNTER@", shape: [], data: BigInt64Array.of(-1n) },
    { name: "cube", shape: [1, 2, 1], data: Int32Array.of(0, -5, 7).subarray(1) },
    { name: "bytes", shape: [0, 4], data: new Uint8Array(0) },
  ];
  const expected = arrays.map(({ name, shape, data }, i) => [`${name}.npy`, ["<f4", "<f8", "<i8", "<i4", "|u1"][i], shape, hexOf(data)]);
  assert.deepEqual(runPython(READ_NPZ, [], Buffer.concat(await encode(arrays))), expected);
});

test("Python reads arrays of any size and number", needsPython, async () => {
  const arbitrary = fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 20 });
  const samples = [...fc.sample(arbitrary, 3), [Uint8Array.from({ length: 40_000_000 }, (_, i) => i % 253)]];
  for (const sample of samples) {
    const arrays = sample.map((data, i) => ({ name: `array${i}`, shape: [data.length], data }));
    const pieces = await encode(arrays);
    assert.ok(pieces.every((piece) => piece.length <= 1 << 24));
    assert.deepEqual(
      runPython(READ_NPZ, [], Buffer.concat(pieces)),
      arrays.map(({ name, shape, data }) => [`${name}.npy`, "|u1", shape, hexOf(data)]),
    );
  }
});

test("the same arrays give the same file", async () => {
  const make = async (): Promise<Buffer> => Buffer.concat(await encode([{ name: "a", shape: [2], data: Float32Array.of(1, 2) }]));
  assert.deepEqual(await make(), await make());
});

test("rejects arrays that exceed ZIP's offsets", async () => {
  const huge = { length: 2 ** 30, byteLength: 2 ** 32 } as unknown as Float32Array;
  await assert.rejects(
    encode([{ name: "huge", shape: [2 ** 30], data: huge }]),
    (error) => error instanceof NextvladError && error.code === "BAD_FORMAT" && /safetensors/.test(error.message),
  );
});

test("reads back what is written; rejects it truncated at any byte", async (t) => {
  const file = join(temporaryFolder(t), "x.npz");
  const shape = fc.array(fc.nat(3), { maxLength: 3 });
  const data = fc.constantFrom(Float32Array, Float64Array, Int32Array, BigInt64Array, Uint8Array);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(shape, data, fc.uint8Array({ minLength: 216, maxLength: 216 })), { minLength: 1, maxLength: 3 }),
      async (all) => {
        const arrays = all.map(([sides, kind, bytes], i): NpzArray => {
          const size = sides.reduce((product, side) => product * side, 1);
          return { name: `a${i}`, shape: sides, data: new kind(Uint8Array.from(bytes).buffer, 0, size) };
        });
        writeFileSync(file, Buffer.concat(await encode(arrays)));
        for (const { name, shape: expected, data: values } of arrays) {
          const found = await readNpz(file, () => name);
          assert.deepEqual(found.shape, expected);
          assert.equal(hexOf(found.data), hexOf(values));
        }
      },
    ),
    { numRuns: 60 },
  );
  const whole = Buffer.concat(await encode([{ name: "a", shape: [2], data: Float32Array.of(1, 2) }]));
  for (let length = 0; length < whole.length; length++) {
    writeFileSync(file, whole.subarray(0, length));
    await failsWith(
      readNpz(file, () => "a"),
      "BAD_FORMAT",
    );
  }
});
