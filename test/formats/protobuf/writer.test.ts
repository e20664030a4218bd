import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { LENGTH_DELIMITED, ProtobufReader, tagOf, VARINT } from "../../../src/formats/protobuf/reader.js";
import {
  concat,
  doubleField,
  field,
  floatField,
  type Message,
  rawBytes,
  stringField,
  varintField,
} from "../../../src/formats/protobuf/writer.js";

const place = { file: "test", record: 0, byteOffset: 0 };
const bytesOf = (message: Message): Buffer => Buffer.concat(message.pieces);

test("matches the examples of the Protocol Buffers documentation", () => {
  // https://protobuf.dev/programming-guides/encoding: Test1 {a: 150}, Test2 {b: "testing"}, Test3 {c: {a: 150}}; and int32 -2.
  assert.equal(bytesOf(varintField(1, 150)).toString("hex"), "089601");
  assert.equal(bytesOf(stringField(2, "testing")).toString("hex"), "120774657374696e67");
  assert.equal(bytesOf(field(3, varintField(1, 150))).toString("hex"), "1a03089601");
  assert.equal(bytesOf(varintField(1, -2)).toString("hex"), "08feffffffffffffffff01");
  // Tag 2 with wire type 5, then IEEE 754's 1.0, little-endian.
  assert.equal(bytesOf(floatField(2, 1)).toString("hex"), "150000803f");
  // Tag 2 with wire type 1, then the same as a double.
  assert.equal(bytesOf(doubleField(2, 1)).toString("hex"), "11000000000000f03f");
});

test("reads back messages of any depth", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 2 ** 28 }), fc.maxSafeInteger(), fc.uint8Array({ maxLength: 300 })), { maxLength: 10 }),
      (fields) => {
        const inner = concat(fields.map(([number, value, bytes]) => concat([varintField(number, value), field(number, rawBytes(bytes))])));
        const outer = bytesOf(field(1, field(15, inner)));
        const reader = new ProtobufReader(outer, place);
        assert.equal(reader.varint32(outer.length), tagOf(1, LENGTH_DELIMITED));
        assert.equal(reader.lengthEnd(outer.length), outer.length);
        assert.equal(reader.varint32(outer.length), tagOf(15, LENGTH_DELIMITED));
        assert.equal(reader.lengthEnd(outer.length), outer.length);
        for (const [number, value, bytes] of fields) {
          assert.equal(reader.varint32(outer.length), tagOf(number, VARINT));
          assert.equal(reader.int64(outer.length), value);
          assert.equal(reader.varint32(outer.length), tagOf(number, LENGTH_DELIMITED));
          const end = reader.lengthEnd(outer.length);
          assert.deepEqual(new Uint8Array(outer.subarray(reader.pos, end)), new Uint8Array(bytes));
          reader.pos = end;
        }
        assert.equal(reader.pos, outer.length);
      },
    ),
    { numRuns: 200 },
  );
});
