import assert from "node:assert/strict";
import { describe, mock, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { reportWaits, setStopRequest, untilStopped, waitForInput } from "../../src/base/waiting.js";
import { failsWith } from "../helpers/shards.js";

const never = new Promise<never>(() => undefined);

describe("a wait for an input", () => {
  test("is reported within a second, and again after a minute and two", async (t) => {
    const reports: string[] = [];
    t.after(reportWaits((line) => reports.push(line)));
    mock.timers.enable({ apis: ["setTimeout"] });
    t.after(() => mock.timers.reset());
    let arrive = (_: string): void => {};
    const work = new Promise<string>((resolve) => {
      arrive = resolve;
    });
    const waiting = waitForInput("x.list", work);
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

  test("ends with the signal's exit code once a stop signal has come, unless the input answers in time", async (t) => {
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
