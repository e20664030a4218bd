import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { Arena, BufferPool, Concatenation, VideoPool } from "../../src/data/buffer-pool.js";

describe("an arena", () => {
  test("allocates memory that does not overlap, also not with that of buffers that were not released", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.array(fc.nat(500), { maxLength: 12 }), fc.boolean()), { maxLength: 12 }), (rounds) => {
        const pool = new BufferPool();
        const arena = new Arena(pool);
        const kept: { piece: Uint8Array; mark: number }[] = [];
        let mark = 0;
        for (const [lengths, isReleased] of rounds) {
          const pieces = lengths.map((length) => {
            const piece = arena.allocate(length);
            assert.equal(piece.length, length);
            piece.fill(++mark);
            return { piece, mark: mark % 256 };
          });
          const whole = arena.take();
          for (const { piece, mark } of pieces) assert.ok(piece.every((byte) => byte === mark));
          if (isReleased) pool.release(whole);
          else kept.push(...pieces);
        }
        for (const { piece, mark } of kept) assert.ok(piece.every((byte) => byte === mark));
      }),
    );
  });

  test("allocates from one buffer once the needed size is known, and reuses it", () => {
    const pool = new BufferPool();
    const arena = new Arena(pool);
    const fill = () => [100, 200, 300].map((bytes) => arena.allocate(bytes).buffer);
    fill();
    pool.release(arena.take());
    const second = fill();
    assert.equal(new Set(second).size, 1);
    const whole = arena.take();
    assert.equal(whole, second[0]);
    pool.release(whole);
    assert.deepEqual(new Set(fill()), new Set(second));
  });

  test("does not grow by allocations that are rolled back; the pool drops empty buffers", () => {
    const pool = new BufferPool();
    const arena = new Arena(pool);
    for (let round = 0; round < 3; round++) {
      arena.allocate(1000);
      arena.commit();
      for (let record = 0; record < 500; record++) {
        arena.allocate(5000);
        arena.rollback();
      }
      const whole = arena.take();
      assert.ok(whole.byteLength < 2000, `${whole.byteLength} bytes`);
      pool.release(whole);
      pool.release(new Arena(pool).take());
    }
    assert.ok(pool.acquire().byteLength >= 1000);
  });
});

test("a concatenation contains its parts back to back", () => {
  fc.assert(
    fc.property(fc.array(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 }), { maxLength: 10 }), (rounds) => {
      const pool = new BufferPool();
      const joined = new Concatenation(pool);
      for (const parts of rounds) {
        for (const part of parts) joined.append(part);
        const whole = joined.take();
        assert.deepEqual(whole, new Uint8Array(Buffer.concat(parts)));
        pool.release(whole.buffer as ArrayBuffer);
      }
    }),
  );
});

test("a concatenation reuses released memory if it is large enough", () => {
  const pool = new BufferPool();
  const joined = new Concatenation(pool);
  joined.append(new Uint8Array(1000));
  joined.append(new Uint8Array(1000));
  const { buffer } = joined.take();
  pool.release(buffer as ArrayBuffer);
  for (const bytes of [500, 1500]) joined.append(new Uint8Array(bytes));
  assert.equal(joined.take().buffer, buffer);
});

test("a video's copy has its bytes in one buffer of a multiple of 32 KiB, which is reused for videos of similar length", () => {
  const pool = new VideoPool();
  const video = (rgb: number, audio: number) => ({
    id: "v",
    frames: 1,
    rgb: new Uint8Array(rgb).fill(1),
    audio: new Uint8Array(audio).fill(2),
    labels: Int32Array.of(3),
  });
  for (const [rgb, audio, bytes] of [
    [30_000, 2768, 32_768],
    [30_000, 2770, 65_536],
    [10_000, 60_000, 98_304],
  ] as const) {
    const copy = pool.copy(video(rgb, audio));
    assert.deepEqual(copy, video(rgb, audio));
    assert.ok(copy.rgb.buffer === copy.audio.buffer);
    assert.equal(copy.rgb.buffer.byteLength, bytes);
    pool.release(copy);
    assert.ok(pool.copy(video(rgb - 1, audio)).rgb.buffer === copy.rgb.buffer);
    assert.ok(pool.copy(video(rgb, audio)).rgb.buffer !== copy.rgb.buffer);
  }
});
