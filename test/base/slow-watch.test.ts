import assert from "node:assert/strict";
import { test } from "node:test";
import { describeWait, SlowWatch } from "../../src/base/slow-watch.js";

test("a wait is told after a minute, two, four, and so on, each hour at least, and no more once it is over", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let passedMs = 0;
  const told: number[] = [];
  const watch = new SlowWatch(() => told.push(passedMs / 60_000));
  const pass = (minutes: number): void => {
    for (let minute = 0; minute < minutes; minute++) {
      passedMs += 60_000;
      t.mock.timers.tick(60_000);
    }
  };
  watch.begin();
  pass(200);
  assert.deepEqual(told, [1, 2, 4, 8, 16, 32, 64, 124, 184]);
  watch.begin();
  pass(1);
  assert.deepEqual(told.slice(9), [201]);
  watch.end();
  pass(100);
  assert.equal(told.length, 10);
});

test("a wait is told with how long it has lasted", () => {
  assert.equal(describeWait("no data from x", 61_234), "no data from x for 61 s. Does the disk or the network file system answer?");
  assert.equal(describeWait("y", 1234), "y for 1.2 s. Does the disk or the network file system answer?");
});
