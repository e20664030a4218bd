import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { IdPacker, IdTable } from "../../src/inspection/id-table.js";

function pack(ids: readonly string[]): Uint8Array {
  return Buffer.concat(ids.map((id) => Buffer.concat([Buffer.from([Buffer.byteLength(id)]), Buffer.from(id)])));
}

test("finds the repeats that a Map finds, in pieces of any size; empty ids are none", () => {
  const id = fc.oneof(fc.string({ maxLength: 3 }), fc.stringMatching(/^[ab]{0,4}$/), fc.string({ minLength: 60, maxLength: 63 }));
  fc.assert(
    fc.property(fc.array(fc.array(id, { maxLength: 40 }), { maxLength: 10 }), (pieces) => {
      const table = new IdTable();
      const found: [number, number][] = [];
      for (const piece of pieces) table.add(pack(piece), (record, first) => found.push([record, first]));
      const expected: [number, number][] = [];
      const firsts = new Map<string, number>();
      for (const [record, text] of pieces.flat().entries()) {
        const first = firsts.get(text);
        if (text !== "" && first !== undefined) expected.push([record, first]);
        else if (text !== "") firsts.set(text, record);
        assert.equal(Buffer.from(table.idOf(record)).toString(), text);
      }
      assert.deepEqual(found, expected);
      assert.deepEqual([table.records, table.ids], [pieces.flat().length, firsts.size]);
    }),
    { numRuns: 200 },
  );
});

test("ids are packed behind their lengths; of one of more than 255 bytes its SHA-256 is", () => {
  const id = fc.oneof(fc.string({ unit: "binary", maxLength: 8 }), fc.string({ minLength: 250, maxLength: 300 }));
  fc.assert(
    fc.property(fc.array(id, { maxLength: 400 }), (ids) => {
      const packer = new IdPacker();
      for (const text of ids) packer.add(text);
      const expected = ids.map((text) => {
        const bytes = Buffer.from(text, "utf8");
        const kept = bytes.length > 255 ? createHash("sha256").update(bytes).digest() : bytes;
        return Buffer.concat([Buffer.from([kept.length]), kept]);
      });
      assert.ok(Buffer.concat(expected).equals(packer.packed()));
      assert.equal(packer.count, ids.length);
    }),
    { numRuns: 200 },
  );
});

test("holds 300,000 ids through all its growing, in less than 25 bytes each", () => {
  const count = 300_000;
  const names = Array.from({ length: count }, (_, i) => i.toString(36).padStart(4, "0"));
  const table = new IdTable();
  for (let from = 0; from < count; from += 1000) table.add(pack(names.slice(from, from + 1000)), () => assert.fail("a repeat"));
  const repeats: number[] = [];
  table.add(pack(["00zz", "nobody", names.at(-1) as string]), (_, first) => repeats.push(first));
  assert.deepEqual(repeats, [35 * 36 + 35, count - 1]);
  assert.ok(table.heldBytes < 25 * count, `${table.heldBytes} bytes`);
});
