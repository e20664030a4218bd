import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { NextvladError } from "../../../src/base/errors.js";
import {
  encodePaddleVariable,
  looksLikePaddleVariable,
  type PaddleVariable,
  parseVariableHeader,
  VARIABLE_HEAD_BYTES,
} from "../../../src/formats/tensors/paddle-variable.js";
import { goldenFolder } from "../../helpers/golden.js";
import { encodeVariable } from "../../helpers/paddle-files.js";

type Expected = Readonly<Record<string, { readonly dtype: string; readonly shape: readonly number[]; readonly row_major: string }>>;

const folder = fileURLToPath(goldenFolder("formats/paddle"));
const expected = JSON.parse(readFileSync(`${folder}/expected.json`, "utf8")) as Expected;
const parse = (bytes: Uint8Array) => parseVariableHeader(bytes, bytes.length, "v");

/** Returns the file of a variable with this descriptor, `dataBytes` zero bytes of data, and, if `levels` is given, one LoD level with these bytes. */
function variable(descriptor: readonly number[], dataBytes: number, levels: readonly number[] = []): Buffer {
  const head = Buffer.alloc(12 + levels.length + 8);
  head.writeUInt32LE(levels.length === 0 ? 0 : 1, 4);
  Buffer.from(levels).copy(head, 12);
  head.writeInt32LE(descriptor.length, 16 + levels.length);
  return Buffer.concat([head, Buffer.from(descriptor), Buffer.alloc(dataBytes)]);
}

const refused = (pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof NextvladError && error.code === "BAD_FORMAT", String(error));
  assert.match(error.message, pattern);
  return true;
};

describe("variables that Paddle wrote", () => {
  for (const name of readdirSync(`${folder}/dir`)) {
    test(name, () => {
      const bytes = readFileSync(`${folder}/dir/${name}`);
      const want = expected[name];
      assert.ok(want !== undefined && looksLikePaddleVariable(bytes));
      const { dtype, shape, dataOffset } = parse(bytes);
      assert.deepEqual([dtype, shape], [want.dtype, want.shape]);
      assert.equal(bytes.subarray(dataOffset).toString("base64"), want.row_major);
      assert.deepEqual(
        encodeVariable({ dtype, shape, bytes: bytes.subarray(dataOffset) }),
        bytes,
        "the tests' own encoder writes the same",
      );
    });
  }

  test("skips LoD levels", () => {
    const bytes = readFileSync(`${folder}/lodvar`);
    const { dtype, shape, dataOffset } = parse(bytes);
    assert.equal(dtype, "f4");
    assert.equal(
      shape.reduce((a, b) => a * b, 4),
      bytes.length - dataOffset,
    );
  });

  test("rejects several variables in one file", () =>
    assert.throws(() => parse(readFileSync(`${folder}/combined`)), refused(/wrong data length/)));
});

test("reads packed and unpacked dimensions, before or after the type", () => {
  for (const descriptor of [
    [8, 5, 16, 3],
    [8, 5, 18, 1, 3],
    [16, 3, 8, 5],
    [8, 5, 18, 2, 1, 3],
    [8, 5, 16, 1, 26, 1, 0, 16, 3],
  ]) {
    const { dtype, shape } = parse(variable(descriptor, 12));
    assert.deepEqual([dtype, shape.reduce((a, b) => a * b)], ["f4", 3]);
  }
  assert.deepEqual(parse(variable([8, 5], 4)).shape, []);
});

test("rejects an invalid header before allocating memory", () => {
  const huge = [8, 5, 16, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
  for (const [bytes, pattern] of [
    [variable(huge, 12), /wrong data length for f4 \[1152921504606847000\].*expected 4611686018427388000 bytes of data, found 12/],
    [variable([8, 5, 16, 3], 11), /expected 12 bytes of data, found 11/],
    [variable([8, 5, 16, 3], 13), /expected 12 bytes of data, found 13/],
    [variable([8, 7, 16, 3], 12), /unsupported data type 7/],
    [variable([8, 5, 16, ...Array(9).fill(0xff), 1], 12), /invalid shape \[-1\]/],
    [variable([8, 5, 18, 9, 3], 12), /invalid descriptor/],
    [variable(Array(1025).fill(8), 12), /descriptor of 1025 bytes/],
    [Buffer.concat([Buffer.from([1]), Buffer.alloc(40)]), /unsupported LoDTensor version 1/],
    [Buffer.from([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10]), /expected 1152921504606847000 more bytes/],
    [Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10]), /LoD levels \(weights have none\)/],
    [Buffer.alloc(7), /expected 4 more bytes, found 3/],
  ] as const) {
    assert.throws(() => parse(bytes), refused(pattern));
  }
});

test("corrupt headers give a value or BAD_FORMAT, never another error", () => {
  const files = readdirSync(`${folder}/dir`).map((name) => readFileSync(`${folder}/dir/${name}`));
  fc.assert(
    fc.property(
      fc.constantFrom(...files),
      fc.array(fc.tuple(fc.nat({ max: 40 }), fc.nat({ max: 255 })), { maxLength: 4 }),
      fc.nat({ max: 80 }),
      (file, edits, length) => {
        const bytes = Uint8Array.from(file.subarray(0, length));
        for (const [at, byte] of edits) if (at < bytes.length) bytes[at] = byte;
        try {
          const { dtype, shape, dataOffset } = parse(bytes);
          assert.ok(dataOffset <= bytes.length && typeof dtype === "string" && shape.every((side) => side >= 0));
        } catch (error) {
          assert.ok(error instanceof NextvladError, String(error));
        }
      },
    ),
    { numRuns: 2000 },
  );
});

const hexOf = (variable: PaddleVariable): string => Buffer.concat(encodePaddleVariable(variable)).toString("hex");

test("writes the same bytes as Paddle 2.6.2's save_vars", () => {
  const matrix = { shape: [2, 3], data: Float32Array.of(-2.5, -1.5, -0.5, 0.5, 1.5, 2.5) };
  assert.equal(hexOf(matrix), "0000000000000000000000000000000006000000080510021003000020c00000c0bf000000bf0000003f0000c03f00002040");
  const vector = { shape: [3], data: new Float32Array(Uint32Array.of(0xbd99999c, 0xb8d1b99d, 0x3f4cccd0).buffer) };
  assert.equal(hexOf(vector), "0000000000000000000000000000000004000000080510039c9999bd9db9d1b8d0cc4c3f");
  const counter = { shape: [1], data: BigInt64Array.of(41n) };
  assert.equal(hexOf(counter), "0000000000000000000000000000000004000000080310012900000000000000");
});

test("dimensions above 127 take two bytes, as Paddle writes [1024, 2048]", () => {
  const [head, values] = encodePaddleVariable({ shape: [1024, 2048], data: new Float32Array(1024 * 2048) });
  assert.equal(Buffer.from(head as Uint8Array).toString("hex"), "00000000000000000000000000000000080000000805108008108010");
  assert.equal(values?.length, 4 * 1024 * 2048);
});

test("writes only the array's part of a shared buffer", () => {
  const data = Float32Array.of(9, 1, 2, 9).subarray(1, 3);
  assert.equal(hexOf({ shape: [2], data }).slice(-16), "0000803f00000040");
});

test("rejects data that do not match the shape", () => {
  assert.throws(
    () => encodePaddleVariable({ shape: [2, 2], data: new Float32Array(3) }),
    (error) => error instanceof NextvladError && error.code === "BAD_FORMAT" && /4 values for \[2, 2\], found 3/.test(error.message),
  );
});

test("reads back what is written; rejects it truncated at any byte or with a trailing byte", () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(5), { maxLength: 4 }),
      fc.boolean(),
      fc.uint8Array({ minLength: 5000, maxLength: 5000 }),
      (shape, isFloat, bytes) => {
        const size = shape.reduce((product, side) => product * side, 1);
        const memory = Uint8Array.from(bytes).buffer;
        const data = isFloat ? new Float32Array(memory, 0, size) : new BigInt64Array(memory, 0, size);
        const file = Buffer.concat(encodePaddleVariable({ shape, data }));
        const parse = (part: Uint8Array) => parseVariableHeader(part.subarray(0, VARIABLE_HEAD_BYTES), part.length, "x");
        const found = parse(file);
        assert.deepEqual({ dtype: found.dtype, shape: found.shape }, { dtype: isFloat ? "f4" : "i8", shape });
        assert.deepEqual(file.subarray(found.dataOffset), Buffer.from(data.buffer, 0, data.byteLength));
        for (let length = 0; length < Math.min(file.length, 40); length++)
          assert.throws(() => parse(file.subarray(0, length)), NextvladError);
        for (const wrong of [file.subarray(0, -1), Buffer.concat([file, Buffer.alloc(1)])])
          assert.throws(() => parse(wrong), NextvladError);
      },
    ),
    { numRuns: 100 },
  );
});
