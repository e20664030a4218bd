import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../src/base/errors.js";
import { parseVariableHeader, VARIABLE_HEAD_BYTES } from "../../src/formats/paddle-variable.js";
import { encodePaddleVariable, type PaddleVariable } from "../../src/formats/paddle-variable-encoder.js";

const hexOf = (variable: PaddleVariable): string => Buffer.concat(encodePaddleVariable(variable)).toString("hex");

test("variables have the bytes that Paddle 2.6.2's save_vars gave them", () => {
  const matrix = { shape: [2, 3], data: Float32Array.of(-2.5, -1.5, -0.5, 0.5, 1.5, 2.5) };
  assert.equal(hexOf(matrix), "0000000000000000000000000000000006000000080510021003000020c00000c0bf000000bf0000003f0000c03f00002040");
  const vector = { shape: [3], data: new Float32Array(Uint32Array.of(0xbd99999c, 0xb8d1b99d, 0x3f4cccd0).buffer) };
  assert.equal(hexOf(vector), "0000000000000000000000000000000004000000080510039c9999bd9db9d1b8d0cc4c3f");
  const counter = { shape: [1], data: BigInt64Array.of(41n) };
  assert.equal(hexOf(counter), "0000000000000000000000000000000004000000080310012900000000000000");
});

test("sides past 127 take two bytes, as Paddle writes [1024, 2048]", () => {
  const [head, values] = encodePaddleVariable({ shape: [1024, 2048], data: new Float32Array(1024 * 2048) });
  assert.equal(Buffer.from(head as Uint8Array).toString("hex"), "00000000000000000000000000000000080000000805108008108010");
  assert.equal(values?.length, 4 * 1024 * 2048);
});

test("only the array's own part of its memory is written", () => {
  const data = Float32Array.of(9, 1, 2, 9).subarray(1, 3);
  assert.equal(hexOf({ shape: [2], data }).slice(-16), "0000803f00000040");
});

test("data that do not fit their shape are refused", () => {
  assert.throws(
    () => encodePaddleVariable({ shape: [2, 2], data: new Float32Array(3) }),
    (error) => error instanceof NextvladError && error.code === "BAD_FORMAT" && /4 values for \[2, 2\], found 3/.test(error.message),
  );
});

test("what is written is read back; cut at any byte, or with one more, it is refused", () => {
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
