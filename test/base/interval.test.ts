import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidArgumentError } from "commander";
import { isDue } from "../../src/base/interval.js";
import { interval } from "../../src/commands/flag-values.js";

test("an interval is a number of steps, or a time with its unit", () => {
  assert.deepEqual(["500", " 1 ", "30m", "90s", "2h"].map(interval), [
    { steps: 500 },
    { steps: 1 },
    { ms: 1_800_000 },
    { ms: 90_000 },
    { ms: 7_200_000 },
  ]);
  for (const text of ["", "0", "0m", "-5", "1.5h", "m", "5 d", "1e3", "99999999999"]) {
    assert.throws(() => interval(text), InvalidArgumentError, text);
  }
});

test("an interval of steps is due at its multiples, never if it is 0; one of milliseconds by the clock", () => {
  assert.deepEqual(
    [0, 4, 5, 6, 10].map((step) => isDue({ steps: 5 }, step, 1e9)),
    [true, false, true, false, true],
  );
  assert.equal(isDue({ steps: 0 }, 0, 1e9), false);
  assert.equal(isDue({ ms: 1000 }, 3, 999), false);
  assert.equal(isDue({ ms: 1000 }, 3, 1000), true);
});
