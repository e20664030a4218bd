import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import fc from "fast-check";
import { IdPacker, IdTable } from "../../src/inspection/id-table.js";

function pack(ids: readonly string[]): Uint8Array {
  return Buffer.concat(ids.map((id) => Buffer.concat([Buffer.from([Buffer.byteLength(id)]), Buffer.from(id)])));
}

/** Returns the repeated IDs of a list: the indices of their records, in ascending order of the first. */
function repeatsOf(ids: readonly string[]): number[][] {
  const records = new Map<string, number[]>();
  for (const [record, id] of ids.entries()) records.set(id, [...(records.get(id) ?? []), record]);
  return [...records].filter(([id, group]) => id !== "" && group.length > 1).map(([, group]) => group);
}

test("finds the same repeated IDs as a Map, in pieces of any size; empty IDs are unknown", () => {
  const id = fc.oneof(fc.string({ maxLength: 3 }), fc.stringMatching(/^[ab]{0,4}$/), fc.string({ minLength: 60, maxLength: 63 }));
  fc.assert(
    fc.property(fc.array(fc.array(id, { maxLength: 40 }), { maxLength: 10 }), (pieces) => {
      const table = new IdTable();
      const ids = pieces.flat();
      for (const piece of pieces) {
        const start = table.add(pack(piece));
        for (const [i, text] of piece.entries()) {
          const offset = start + pack(piece.slice(0, i)).length;
          assert.equal(Buffer.from(table.idAt(offset)).toString(), text);
          assert.equal(table.countRecords(start, offset), i);
        }
      }
      const expected = repeatsOf(ids);
      const { records, groups } = table.findRepeats(1000);
      const found = groups.map((offsets) => offsets.map((offset) => table.countRecords(0, offset)));
      assert.deepEqual(
        found.sort(([a = 0], [b = 0]) => a - b),
        expected,
      );
      assert.equal(
        records,
        expected.reduce((sum, group) => sum + group.length - 1, 0),
      );
      const limited = table.findRepeats(2);
      assert.deepEqual([limited.records, limited.groups.length], [records, Math.min(2, expected.length)]);
    }),
    { numRuns: 200 },
  );
});

test("packs IDs after their lengths, and the SHA-256 of an ID of more than 255 bytes", () => {
  const id = fc.oneof(fc.string({ unit: "binary", maxLength: 8 }), fc.string({ minLength: 250, maxLength: 300 }));
  fc.assert(
    fc.property(fc.array(id, { maxLength: 400 }), (ids) => {
      const packer = new IdPacker();
      for (const text of ids) packer.add(text);
      const expected = ids.map((text) => {
        const bytes = Buffer.from(text, "utf8");
        const stored = bytes.length > 255 ? createHash("sha256").update(bytes).digest() : bytes;
        return Buffer.concat([Buffer.from([stored.length]), stored]);
      });
      assert.ok(Buffer.concat(expected).equals(packer.packed()));
      assert.equal(packer.count, ids.length);
    }),
    { numRuns: 200 },
  );
});

test("stores 300,000 IDs in less than 20 bytes each, while its arrays grow", () => {
  const count = 300_000;
  const names = Array.from({ length: count }, (_, i) => i.toString(36).padStart(4, "0"));
  const table = new IdTable();
  for (let from = 0; from < count; from += 1000) table.add(pack(names.slice(from, from + 1000)));
  assert.deepEqual(table.findRepeats(10), { records: 0, groups: [] });
  table.add(pack(["00zz", "nobody", names.at(-1) as string]));
  const { records, groups } = table.findRepeats(10);
  const found = groups.map((offsets) => offsets.map((offset) => table.countRecords(0, offset)));
  assert.equal(records, 2);
  assert.deepEqual(
    found.sort(([a = 0], [b = 0]) => a - b),
    [
      [35 * 36 + 35, count],
      [count - 1, count + 2],
    ],
  );
  assert.ok(table.memoryBytes < 20 * count, `${table.memoryBytes} bytes`);
});
