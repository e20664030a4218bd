import assert from "node:assert/strict";
import { test } from "node:test";
import { sealJson, unsealJson } from "../../src/formats/sealed-json.js";

test("what was sealed is whole, and any change shows", () => {
  const value = { name: "é", list: [1, 2.5], none: null };
  const text = sealJson(value);
  const { rest, expected, found } = unsealJson(text) ?? {};
  assert.deepEqual(rest, value);
  assert.equal(expected, found);
  const changed = unsealJson(text.replace("2.5", "2.6"));
  assert.notEqual(changed?.expected, changed?.found);
});

test("what is no JSON object is none", () => {
  for (const text of ["", "null", "3", '{"a": ']) assert.equal(unsealJson(text), null);
});
