import assert from "node:assert/strict";
import { test } from "node:test";
import { showValue } from "../../src/base/shown-value.js";

test("values are shown on one line, and never longer than is asked for", () => {
  for (const [value, shown] of [
    [1, "1"],
    [Number.NaN, "NaN"],
    ["a\nb", '"a\\nb"'],
    [[1, { a: null }], '[1,{"a":null}]'],
    [undefined, "undefined"],
    ["x".repeat(100), `"${"x".repeat(56)}...`],
  ] as const)
    assert.equal(showValue(value), shown);
  assert.equal(showValue("x".repeat(100), 10), '"xxxxxx...');
});

test("a value that JSON cannot hold is told as such", () => {
  const circle: unknown[] = [];
  circle.push(circle);
  assert.equal(showValue(circle), "a list that is nested too deeply");
  let deep: unknown = {};
  for (let level = 0; level < 100_000; level++) deep = { deep };
  assert.equal(showValue(deep), "a mapping that is nested too deeply");
});
