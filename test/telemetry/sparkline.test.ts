import assert from "node:assert/strict";
import { test } from "node:test";
import { sparkline } from "../../src/telemetry/sparkline.js";

test("a sparkline shows means of consecutive values, from the lowest to the highest", () => {
  assert.equal(sparkline([8, 7, 6, 5, 4, 3, 2, 1], 8), "█▇▆▅▄▃▂▁");
  assert.equal(sparkline([0, 0, 7, 7], 2), "▁█");
  assert.equal(sparkline([0, 1, 2, 3, 4], 2), "▁█");
  assert.equal(sparkline([5, 5, 5], 10), "▁▁▁");
  assert.equal(sparkline([1, Number.NaN, 2], 10), "▁█");
  assert.equal(sparkline([1], 10), "");
});
