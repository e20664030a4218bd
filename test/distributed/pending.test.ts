import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Pausable, pauseFor, runInTurn, withoutPause } from "../../src/distributed/pending.js";

describe("computations that exchange", () => {
  const events: string[] = [];
  /** Starts exchanges one after another, and returns their number. */
  function* computation(name: string, exchanges: number): Pausable<number> {
    for (let i = 0; i < exchanges; i++) {
      events.push(`start ${name}${i}`);
      const result = yield* pauseFor({
        wait: () => {
          events.push(`wait ${name}${i}`);
          return i;
        },
      });
      assert.equal(result, i);
    }
    return exchanges;
  }

  test("run in turn: each waits for an exchange only after the others have started one", () => {
    events.length = 0;
    assert.deepEqual(runInTurn([computation("a", 2), computation("b", 1), computation("c", 0), computation("d", 2)]), [2, 1, 0, 2]);
    assert.deepEqual(events, [
      ...["start a0", "start b0", "start d0"],
      ...["wait a0", "start a1", "wait b0", "wait d0", "start d1"],
      ...["wait a1", "wait d1"],
    ]);
  });

  test("without an exchange run one after another, when their turn comes", () => {
    const order: string[] = [];
    const computations = ["a", "b"].map((name) => withoutPause(() => order.push(name)));
    assert.deepEqual(order, []);
    assert.deepEqual(runInTurn(computations), [1, 2]);
    assert.deepEqual(order, ["a", "b"]);
  });

  test("pass on the error of an exchange", () => {
    const failing = pauseFor({
      wait: () => {
        throw new Error("rank 1 does not respond");
      },
    });
    assert.throws(() => runInTurn([failing]), /rank 1 does not respond/);
  });
});
