import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { JoinedSlab, PieceSlab, SlabPool } from "../../src/data/slab.js";

describe("pieces", () => {
  test("do not overlap, whatever their lengths, and stay apart from those of slabs that were not given back", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.array(fc.nat(500), { maxLength: 12 }), fc.boolean()), { maxLength: 12 }), (rounds) => {
        const pool = new SlabPool();
        const slab = new PieceSlab(pool);
        const kept: { piece: Uint8Array; mark: number }[] = [];
        let mark = 0;
        for (const [lengths, givesBack] of rounds) {
          const pieces = lengths.map((length) => {
            const piece = slab.allocate(length);
            assert.equal(piece.length, length);
            piece.fill(++mark);
            return { piece, mark: mark % 256 };
          });
          const whole = slab.take();
          for (const { piece, mark } of pieces) assert.ok(piece.every((byte) => byte === mark));
          if (givesBack) pool.giveBack(whole);
          else kept.push(...pieces);
        }
        for (const { piece, mark } of kept) assert.ok(piece.every((byte) => byte === mark));
      }),
    );
  });

  test("lie in one slab once it is known how much is wanted, and the same slab comes again", () => {
    const pool = new SlabPool();
    const slab = new PieceSlab(pool);
    const fill = () => [100, 200, 300].map((bytes) => slab.allocate(bytes).buffer);
    fill();
    pool.giveBack(slab.take());
    const second = fill();
    assert.equal(new Set(second).size, 1);
    const whole = slab.take();
    assert.equal(whole, second[0]);
    pool.giveBack(whole);
    assert.deepEqual(new Set(fill()), new Set(second));
  });

  test("that are undone make no slab larger, however many; an empty slab does not go round", () => {
    const pool = new SlabPool();
    const slab = new PieceSlab(pool);
    for (let round = 0; round < 3; round++) {
      slab.allocate(1000);
      slab.keep();
      for (let record = 0; record < 500; record++) {
        slab.allocate(5000);
        slab.undo();
      }
      const whole = slab.take();
      assert.ok(whole.byteLength < 2000, `${whole.byteLength} bytes`);
      pool.giveBack(whole);
      pool.giveBack(new PieceSlab(pool).take());
    }
    assert.ok(pool.draw().byteLength >= 1000);
  });
});

test("what is joined comes out back to back, in memory of before where that is large enough", () => {
  fc.assert(
    fc.property(fc.array(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 }), { maxLength: 10 }), (rounds) => {
      const pool = new SlabPool();
      const joined = new JoinedSlab(pool);
      for (const parts of rounds) {
        for (const part of parts) joined.append(part);
        const whole = joined.take();
        assert.deepEqual(whole, new Uint8Array(Buffer.concat(parts)));
        pool.giveBack(whole.buffer as ArrayBuffer);
      }
    }),
  );
});

test("what is joined next is in the memory that was given back, where it fits", () => {
  const pool = new SlabPool();
  const joined = new JoinedSlab(pool);
  joined.append(new Uint8Array(1000));
  joined.append(new Uint8Array(1000));
  const { buffer } = joined.take();
  pool.giveBack(buffer as ArrayBuffer);
  for (const bytes of [500, 1500]) joined.append(new Uint8Array(bytes));
  assert.equal(joined.take().buffer, buffer);
});
