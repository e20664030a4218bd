import assert from "node:assert/strict";
import { test } from "node:test";
import { ScoreRows } from "../../src/evaluation/score-rows.js";

test("rows are little-endian floats with the sign bit at labels; their bytes are counted until they are taken", () => {
  const rows = new ScoreRows(3);
  assert.deepEqual([rows.rowBytes, rows.length], [12, 0]);
  const labels = [Int32Array.of(2), Int32Array.of(0, 1)];
  rows.add(Float32Array.of(0.5, -0, 0.25, 1, 0, 0.75), labels);
  assert.equal(rows.length, 24);
  rows.add(Float32Array.of(0.125, 0.25, 0.5), [Int32Array.of()]);
  assert.equal(rows.length, 36);
  const taken = Buffer.from(rows.take());
  assert.equal(rows.length, 0);
  const floats = Array.from({ length: taken.length / 4 }, (_, i) => taken.readFloatLE(4 * i));
  assert.deepEqual(floats, [0.5, 0, -0.25, -1, -0, 0.75, 0.125, 0.25, 0.5]);
  assert.equal(rows.take().length, 0);
});
