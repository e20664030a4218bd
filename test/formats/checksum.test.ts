import assert from "node:assert/strict";
import { test } from "node:test";
import { parseWithChecksum, stringifyWithChecksum } from "../../src/formats/checksum.js";

test("what was sealed is whole, and any change shows", () => {
  const value = { name: "é", list: [1, 2.5], none: null };
  const text = stringifyWithChecksum(value);
  const { rest, expected, found } = parseWithChecksum(text) ?? {};
  assert.deepEqual(rest, value);
  assert.equal(expected, found);
  const changed = parseWithChecksum(text.replace("2.5", "2.6"));
  assert.notEqual(changed?.expected, changed?.found);
});

test("what is no JSON object is none", () => {
  for (const text of ["", "null", "3", '{"a": ']) assert.equal(parseWithChecksum(text), null);
});
