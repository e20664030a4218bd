import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseLiteral } from "../../src/config/value-types.js";

test("parses Python's and YAML's words for booleans and null", () => {
  assert.deepEqual(["True", "true", " False ", "None", "null", "~"].map(parseLiteral), [true, true, false, null, null, null]);
});

test("parses text that is a number in Python", () => {
  assert.deepEqual(["1e-5", "0.0002", "160", "-3", ".5", "5.", "1E+2"].map(parseLiteral), [1e-5, 0.0002, 160, -3, 0.5, 5, 100]);
});

test("parses the text of any finite number back to the number", () => {
  fc.assert(
    fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => parseLiteral(String(value)) === value || value === 0),
  );
});

test("returns other text and other types unchanged", () => {
  const values = ["auto", "", "1e", "0x10", "1_000", "./1", "Infinity", "nan", 3, true, null, ["True"]];
  assert.deepEqual(values.map(parseLiteral), values);
});
