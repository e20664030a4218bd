import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { type ErrorCode, NextvladError } from "../../../src/base/errors.js";
import { writeFileAtomic } from "../../../src/base/files.js";
import {
  type Dtype,
  encodeSafetensors,
  type NamedTensor,
  readSafetensors,
  SafetensorsFile,
  type TensorData,
} from "../../../src/formats/tensors/safetensors.js";

let folder: string;
let file: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), "safetensors-"));
  file = join(folder, "some.safetensors");
});
after(() => rmSync(folder, { recursive: true }));

function isError(code: ErrorCode, ...words: readonly string[]): (error: unknown) => boolean {
  return (error) => error instanceof NextvladError && error.code === code && words.every((word) => error.message.includes(word));
}

function encoded(tensors: readonly NamedTensor[], metadata?: Record<string, string>): Buffer {
  return Buffer.concat([...encodeSafetensors(tensors, metadata)]);
}

/** Returns a file with this header (JSON or text) and this many bytes of data. */
function fileOf(header: unknown, dataBytes: number): Buffer {
  const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json, Buffer.alloc(dataBytes)]);
}

test("reads what the safetensors library wrote", async () => {
  const golden = JSON.parse(readFileSync(new URL("../../../../test/golden/formats/safetensors.json", import.meta.url), "utf8")) as {
    readonly file: string;
    readonly metadata: Record<string, string>;
    readonly tensors: Record<string, { readonly dtype: Dtype; readonly shape: readonly number[]; readonly values: readonly string[] }>;
  };
  writeFileSync(file, Buffer.from(golden.file, "base64"));
  const { metadata, tensors } = await readSafetensors(file);
  assert.deepEqual(metadata, golden.metadata);
  assert.deepEqual([...tensors.keys()].sort(), Object.keys(golden.tensors).sort());
  for (const [name, { dtype, shape, data }] of tensors) {
    assert.deepEqual(
      { dtype, shape, values: [...data] },
      {
        dtype: golden.tensors[name]?.dtype,
        shape: golden.tensors[name]?.shape,
        values: golden.tensors[name]?.values.map((value) => (dtype.endsWith("64") && dtype !== "F64" ? BigInt(value) : Number(value))),
      },
    );
  }
});

/** Reads the format by its specification with Python's standard library, and prints [metadata, {name: [dtype, shape, hex]}]. */
const READ_IN_PYTHON = `
import json, struct, sys
data = sys.stdin.buffer.read()
length, = struct.unpack("<Q", data[:8])
assert length % 8 == 0 and data[8:9] == b"{"
header = json.loads(data[8:8 + length].decode("utf-8"))
body = data[8 + length:]
metadata = header.pop("__metadata__", {})
assert sum(e - b for b, e in (t["data_offsets"] for t in header.values())) == len(body)
print(json.dumps([metadata, {n: [t["dtype"], t["shape"], body[slice(*t["data_offsets"])].hex()] for n, t in header.items()}]))
`;

const ARRAYS_OF: readonly [Dtype, (bytes: ArrayBuffer) => TensorData][] = [
  ["U8", (bytes) => new Uint8Array(bytes)],
  ["I16", (bytes) => new Int16Array(bytes)],
  ["F32", (bytes) => new Float32Array(bytes)],
  ["I64", (bytes) => new BigInt64Array(bytes)],
  ["F64", (bytes) => new Float64Array(bytes)],
];

const arbitraryTensor: fc.Arbitrary<NamedTensor> = fc
  .record({
    name: fc.string({ unit: "grapheme" }).filter((name) => name !== "__metadata__"),
    type: fc.constantFrom(...ARRAYS_OF),
    shape: fc.array(fc.nat(4), { maxLength: 3 }),
    lazy: fc.boolean(),
    bytes: fc.uint8Array({ minLength: 65 * 8, maxLength: 65 * 8 }),
  })
  .map(({ name, type: [dtype, arrayOf], shape, lazy, bytes }) => {
    const size = shape.reduce((product, side) => product * side, 1);
    // A view with a nonzero byte offset, because the writer must not assume an offset of 0.
    const data = arrayOf(Uint8Array.from(bytes).buffer).subarray(1, 1 + size);
    return { name, dtype, shape, data: lazy ? () => data : data };
  });

const arbitraryTensors = fc.uniqueArray(arbitraryTensor, { selector: ({ name }) => name, maxLength: 6 });
const arbitraryMetadata = fc.dictionary(fc.string({ unit: "grapheme" }), fc.string({ unit: "grapheme" }));

function bytesOf(data: NamedTensor["data"]): Buffer {
  const array = typeof data === "function" ? data() : data;
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
}

test("reads back what is written, bit for bit", async () => {
  await fc.assert(
    fc.asyncProperty(arbitraryTensors, arbitraryMetadata, async (tensors, metadata) => {
      await writeFileAtomic(file, encodeSafetensors(tensors, metadata));
      const found = await readSafetensors(file);
      assert.deepEqual({ ...found.metadata }, { ...metadata });
      assert.equal(found.tensors.size, tensors.length);
      for (const { name, dtype, shape, data } of tensors) {
        const tensor = found.tensors.get(name);
        assert.deepEqual({ dtype: tensor?.dtype, shape: tensor?.shape }, { dtype, shape });
        assert.ok(bytesOf(data).equals(bytesOf(tensor?.data as TensorData)));
      }
    }),
    { numRuns: 60 },
  );
});

test("Python reads what is written", () => {
  const tensors: readonly NamedTensor[] = [
    { name: "hidden1_fc_weights", dtype: "F32", shape: [2, 3], data: Float32Array.of(1, -2, 3.5, 0, -0, Number.NaN) },
    { name: "step", dtype: "I64", shape: [], data: BigInt64Array.of(-5n) },
    { name: "naïve 🎬", dtype: "U8", shape: [3], data: Uint8Array.of(0, 9, 255) },
    { name: "empty", dtype: "F32", shape: [0, 7], data: new Float32Array(0) },
  ];
  const metadata = { format_version: "1", note: 'a "quoted" line\n' };
  const python = spawnSync("python3", ["-c", READ_IN_PYTHON], { input: encoded(tensors, metadata), encoding: "utf8" });
  assert.equal(python.status, 0, python.stderr);
  const expected = Object.fromEntries(tensors.map(({ name, dtype, shape, data }) => [name, [dtype, shape, bytesOf(data).toString("hex")]]));
  assert.deepEqual(JSON.parse(python.stdout), [metadata, expected]);
});

describe("the writer", () => {
  test("yields views of the tensors' memory, and calls lazy data only when they are written", () => {
    const first = new Float32Array(4);
    let fetched = 0;
    const second = (): Float32Array => {
      fetched++;
      return new Float32Array(4);
    };
    const pieces = encodeSafetensors([
      { name: "a", dtype: "F32", shape: [4], data: first },
      { name: "b", dtype: "F32", shape: [4], data: second },
    ]);
    pieces.next();
    assert.equal((pieces.next().value as Uint8Array).buffer, first.buffer);
    assert.equal(fetched, 0);
    pieces.next();
    assert.equal(fetched, 1);
  });

  test("aligns every tensor to its values' size", async () => {
    writeFileSync(
      file,
      encoded([
        { name: "bytes", dtype: "U8", shape: [3], data: new Uint8Array(3) },
        { name: "floats", dtype: "F32", shape: [1], data: new Float32Array(1) },
        { name: "doubles", dtype: "F64", shape: [1], data: new Float64Array(1) },
      ]),
    );
    const opened = await SafetensorsFile.open(file);
    assert.deepEqual(
      ["doubles", "floats", "bytes"].map((name) => opened.tensors.get(name)?.begin),
      [0, 8, 12],
    );
    await opened.close();
  });

  test("rejects duplicate names and data that do not match", () => {
    const data = new Float32Array(2);
    const good: NamedTensor = { name: "w", dtype: "F32", shape: [2], data };
    assert.throws(() => encoded([good, good]), isError("BAD_FORMAT", "parameter w"));
    assert.throws(() => encoded([{ ...good, name: "__metadata__" }]), isError("BAD_FORMAT", "__metadata__"));
    assert.throws(() => encoded([{ ...good, shape: [3] }]), isError("BAD_FORMAT", "parameter w", "F32 [3]", "Float32Array of 2"));
    assert.throws(() => encoded([{ ...good, dtype: "I32" }]), isError("BAD_FORMAT", "parameter w", "I32 [2]"));
    assert.throws(() => encoded([{ ...good, data: () => new Float32Array(1) }]), isError("BAD_FORMAT", "parameter w"));
  });
});

describe("the reader rejects", () => {
  const f32 = (shape: unknown, data_offsets: unknown): unknown => ({ dtype: "F32", shape, data_offsets });
  const cases: readonly [name: string, bytes: Buffer, ...words: string[]][] = [
    ["an empty file", Buffer.alloc(0), "at least 8 bytes", "found 0"],
    ["a header longer than the file", Buffer.concat([fileOf({}, 0).fill(200, 0, 1)]), "at most 2 bytes", "found 200"],
    ["a header of 2^63 bytes", Buffer.concat([Buffer.from("ffffffffffffff7f", "hex"), Buffer.from("{}")]), "found 9223372036854775807"],
    ["a header of 12 MB", fileOf(`{}${" ".repeat(12_000_000)}`, 0), "at most 10000000 bytes"],
    ["a header that is not JSON", fileOf("{", 0), "not JSON"],
    ["a header that is not UTF-8", fileOf("{}", 0).fill(0xff, 9, 10), "not JSON"],
    ["a header that is a list", fileOf([], 0), "not a map"],
    ["metadata that are not strings", fileOf({ __metadata__: { a: 1 } }, 0), "__metadata__"],
    ["metadata that are not a map", fileOf({ __metadata__: ["a"] }, 0), "__metadata__"],
    ["an entry that is null", fileOf({ w: null }, 0), "parameter w", "dtype"],
    ["an unknown dtype", fileOf({ w: { dtype: "toString", shape: [], data_offsets: [0, 4] } }, 4), "parameter w", "toString"],
    ["a dtype without an array", fileOf({ w: { dtype: "BF16", shape: [1], data_offsets: [0, 2] } }, 2), "parameter w", "BF16"],
    ["a negative dimension", fileOf({ w: f32([-1, -1], [0, 4]) }, 4), "parameter w", "[-1,-1]"],
    ["a fractional dimension", fileOf({ w: f32([0.5], [0, 2]) }, 2), "parameter w"],
    ["a dimension that is text", fileOf({ w: f32(["1"], [0, 4]) }, 4), "parameter w"],
    ["dimensions whose product overflows", fileOf({ w: f32([2 ** 52, 2 ** 52], [0, 4]) }, 4), "parameter w", "found 4 bytes"],
    ["offsets that do not match the shape", fileOf({ w: f32([2], [0, 4]) }, 4), "parameter w", "expected 8 bytes", "found 4 bytes"],
    ["reversed offsets", fileOf({ w: f32([1], [4, 0]) }, 4), "parameter w", "[4, 0]"],
    ["three offsets", fileOf({ w: f32([1], [0, 4, 8]) }, 4), "parameter w"],
    ["offsets past the end", fileOf({ w: f32([2], [0, 8]) }, 4), "parameter w", "at most 4 bytes", "end 8"],
    ["overlapping tensors", fileOf({ a: f32([2], [0, 8]), b: f32([1], [4, 8]) }, 8), "parameter b", "overlap"],
    ["a gap", fileOf({ a: f32([1], [0, 4]), b: f32([1], [8, 12]) }, 12), "parameter b", "gap"],
    ["bytes after the last tensor", fileOf({ a: f32([1], [0, 4]) }, 8), "no tensor", "found 8"],
    [
      "a duplicate name",
      fileOf('{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}, "\\u0077" :{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4),
      "duplicate name",
      "parameter w",
    ],
    ["a duplicate key in an entry", fileOf('{"w":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4), "duplicate name"],
  ];
  for (const [name, bytes, ...words] of cases) {
    test(name, async () => {
      writeFileSync(file, bytes);
      await assert.rejects(readSafetensors(file), isError("BAD_FORMAT", file, ...words));
    });
  }

  test("a file truncated at any byte", async () => {
    const good = encoded([{ name: "w", dtype: "F32", shape: [2], data: new Float32Array(2) }]);
    for (let length = 0; length < good.length; length++) {
      writeFileSync(file, good.subarray(0, length));
      await assert.rejects(readSafetensors(file), isError("BAD_FORMAT", file));
    }
  });

  test("a header that is nested too deeply for the stack", async () => {
    const deep = `${"[".repeat(50_000)}${"]".repeat(50_000)}`;
    for (const entry of [`{"dtype":${deep}}`, `{"dtype":"F32","shape":${deep}}`, `{"dtype":"F32","shape":[],"data_offsets":${deep}}`]) {
      writeFileSync(file, fileOf(`{"w":${entry}}`, 0));
      await assert.rejects(readSafetensors(file), isError("BAD_FORMAT", file, "parameter w", "a list that is nested too deeply"));
    }
  });

  test("a missing file, a directory, a missing tensor, a file truncated after it was opened", async () => {
    await assert.rejects(readSafetensors(join(folder, "none")), isError("FILE_MISSING", "none"));
    await assert.rejects(readSafetensors(folder), isError("FILE_UNREADABLE", folder));
    writeFileSync(file, encoded([{ name: "w", dtype: "F32", shape: [1], data: new Float32Array(1) }]));
    const opened = await SafetensorsFile.open(file);
    await assert.rejects(opened.read("v"), isError("BAD_FORMAT", file, "parameter v"));
    truncateSync(file, 60);
    await assert.rejects(opened.read("w"), isError("BAD_FORMAT", file, "truncated"));
    await opened.close();
  });
});

test("names that are special in JavaScript and strings that look like JSON have no effect", async () => {
  const names = ["__proto__", "constructor", "toString", "0", "", '"w":{', "\\"];
  writeFileSync(
    file,
    encoded(
      names.map((name) => ({ name, dtype: "U8", shape: [1], data: Uint8Array.of(name.length) })),
      { '{"a":1,"a":2}': '"a":"a"' },
    ),
  );
  const { metadata, tensors } = await readSafetensors(file);
  assert.deepEqual({ ...metadata }, { '{"a":1,"a":2}': '"a":"a"' });
  for (const name of names) assert.deepEqual([...(tensors.get(name)?.data ?? [])], [name.length]);
});

test("a corrupt header gives tensors or BAD_FORMAT, never another error", async () => {
  const good = encoded(
    [
      { name: "w", dtype: "F32", shape: [2, 2], data: new Float32Array(4) },
      { name: "b", dtype: "I64", shape: [2], data: new BigInt64Array(2) },
    ],
    { step: "1" },
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 }),
      fc.nat(2 * good.length),
      async (flips, cut) => {
        const damaged = Buffer.from(good.subarray(0, cut));
        for (const [at, value] of flips) if (at < damaged.length) damaged[at] = value;
        writeFileSync(file, damaged);
        try {
          await readSafetensors(file);
        } catch (error) {
          assert.ok(isError("BAD_FORMAT", file)(error), String(error));
        }
      },
    ),
    { numRuns: 400 },
  );
});
