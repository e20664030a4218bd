import assert from "node:assert/strict";
import { test } from "node:test";
import { parseWithChecksum, stringifyWithChecksum } from "../../src/formats/checksum.js";

test("detects any change of JSON with a checksum", () => {
  const value = { name: "é", list: [1, 2.5], none: null };
  const text = stringifyWithChecksum(value);
  const { rest, expected, found } = parseWithChecksum(text) ?? {};
  assert.deepEqual(rest, value);
  assert.equal(expected, found);
  const changed = parseWithChecksum(text.replace("2.5", "2.6"));
  assert.notEqual(changed?.expected, changed?.found);
});

test("returns null for text that is not a JSON object", () => {
  for (const text of ["", "null", "3", '{"a": ']) assert.equal(parseWithChecksum(text), null);
});
