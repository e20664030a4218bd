import assert from "node:assert/strict";
import { test } from "node:test";
import { WeightsChecksum } from "../../src/passes/loaded-network.js";

function checksum(arrays: Readonly<Record<string, readonly number[]>>): string {
  const sum = new WeightsChecksum();
  for (const [name, values] of Object.entries(arrays)) sum.add(name, Float32Array.from(values));
  return String(sum);
}

test("the checksum depends on names and values of weights, not on their order", () => {
  const expected = checksum({ a: [1, 2], b: [3] });
  assert.match(expected, /^[0-9a-f]{8}$/);
  assert.equal(checksum({ b: [3], a: [1, 2] }), expected);
  const others = [
    { a: [1, 2], b: [4] },
    { a: [1, 2], c: [3] },
    { a: [1], b: [2, 3] },
    { a: [3], b: [1, 2] },
    { a: [1, 2], b: [3], c: [] },
  ];
  assert.equal(new Set([expected, ...others.map(checksum)]).size, others.length + 1);
});
