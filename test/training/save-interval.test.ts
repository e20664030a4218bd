import assert from "node:assert/strict";
import { test } from "node:test";
import { InvalidArgumentError } from "commander";
import { interval } from "../../src/commands/flag-values.js";
import { isDue } from "../../src/training/save-interval.js";

const at = (step: number, step_in_epoch: number) => {
  return { step, step_in_epoch, epoch: 0, seed: 0, best: null, validated_epoch: null, shards: null };
};

test("an interval is steps, or a time with its unit", () => {
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

test("a snapshot is due at the run's steps, or by the clock; not at an epoch's start, which has one", () => {
  const due = (step: number, inEpoch = step): boolean => isDue({ steps: 5 }, at(step, inEpoch), 1e9);
  assert.deepEqual(
    [4, 5, 6, 10].map((step) => due(step)),
    [false, true, false, true],
  );
  assert.equal(due(10, 0), false);
  assert.equal(isDue({ ms: 1000 }, at(3, 3), 999), false);
  assert.equal(isDue({ ms: 1000 }, at(3, 3), 1000), true);
  assert.equal(isDue({ ms: 1000 }, at(3, 0), 1000), false);
  assert.equal(isDue(null, at(5, 5), 1e9), false);
});
