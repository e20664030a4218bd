import assert from "node:assert/strict";
import { describe, mock, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { describeWait, reportedWait, reportWaits, SlowWatch, setStopRequest, untilStopped } from "../../src/base/waiting.js";
import { failsWith } from "../helpers/shards.js";

const never = new Promise<never>(() => undefined);

describe("a wait for an input", () => {
  test("is reported within a second, and again after one and two minutes", async (t) => {
    const reports: string[] = [];
    t.after(reportWaits((line) => reports.push(line)));
    mock.timers.enable({ apis: ["setTimeout"] });
    t.after(() => mock.timers.reset());
    let arrive = (_: string): void => {};
    const work = new Promise<string>((resolve) => {
      arrive = resolve;
    });
    const waiting = reportedWait("x.list", work);
    mock.timers.tick(999);
    await setImmediate();
    assert.deepEqual(reports, ["waiting for x.list"]);
    for (let second = 1; second < 121; second++) mock.timers.tick(1000);
    assert.equal(reports.length, 3);
    assert.match(reports[1] ?? "", /^still waiting for x\.list, for \S+ s$/);
    arrive("content");
    assert.equal(await waiting, "content");
    mock.timers.tick(1_000_000);
    assert.equal(reports.length, 3);
  });

  test("ends with the signal's exit code after a stop signal, unless the input arrives in time", async (t) => {
    const controller = new AbortController();
    setStopRequest({ signal: controller.signal, exitCode: () => 143 });
    t.after(() => setStopRequest(null));
    const before = untilStopped("a.csv", never, 20);
    const answered = untilStopped("b.csv", new Promise((resolve) => setTimeout(resolve, 5, "b")), 1000);
    controller.abort();
    const after = untilStopped("c.csv", never, 20);
    for (const [wait, name] of [[before, "a.csv"] as const, [after, "c.csv"] as const]) {
      const error = await failsWith(wait, "STOPPED");
      assert.deepEqual([error.exitCode, error.message], [143, `stopped by a signal while waiting for ${name}.`]);
    }
    assert.equal(await answered, "b");
    await assert.rejects(untilStopped("d", Promise.reject(new Error("its own"))), /its own/);
  });
});

test("SlowWatch warns after 1, 2, 4, ... minutes and at least every hour, until it is stopped", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let passedMs = 0;
  const warnings: number[] = [];
  const watch = new SlowWatch(() => warnings.push(passedMs / 60_000));
  const pass = (minutes: number): void => {
    for (let minute = 0; minute < minutes; minute++) {
      passedMs += 60_000;
      t.mock.timers.tick(60_000);
    }
  };
  watch.start();
  pass(200);
  assert.deepEqual(warnings, [1, 2, 4, 8, 16, 32, 64, 124, 184]);
  watch.start();
  pass(1);
  assert.deepEqual(warnings.slice(9), [201]);
  watch.stop();
  pass(100);
  assert.equal(warnings.length, 10);
});

test("the warning about a slow wait has its duration", () => {
  assert.equal(describeWait("no data from x", 61_234), "no data from x for 61 s. Is the disk or network file system responding?");
  assert.equal(describeWait("y", 1234), "y for 1.2 s. Is the disk or network file system responding?");
});
