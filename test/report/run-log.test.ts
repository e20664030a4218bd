import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type RunLog, readRunLog } from "../../src/report/run-log.js";
import { temporaryFolder } from "../helpers/files.js";

const step = (number: number, more: object = {}): object => ({
  level: 30,
  epoch: 0,
  step: number,
  loss: number,
  learning_rate: 0.1,
  ...more,
});
const validation = (epoch: number, gap: number): object => ({ level: 30, epoch, gap, map: 0.1, loss: 1 });

function read(t: TestContext, lines: readonly (object | string)[]): Promise<RunLog> {
  const path = join(temporaryFolder(t), "train.log.jsonl");
  writeFileSync(path, lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n"));
  return readRunLog(path);
}

test("steps, validations, warnings and times are read; other lines and broken ones are skipped", async (t) => {
  const log = await read(t, [
    { level: 30, time: "2026-01-01T00:00:00.000Z", msg: "config" },
    step(0, { gap: 0.5, perr: null, epoch: 3 }),
    "[1]",
    "no JSON",
    { level: 40, msg: "slow" },
    validation(3, 0.25),
    { level: 50, msg: "slow", time: "2026-01-02T00:00:00.000Z" },
    '{"level": 30, "step": 10, "loss"',
  ]);
  assert.deepEqual(log, {
    steps: [
      {
        ...{ first: 0, last: 0 },
        values: { loss: 0, gap: 0.5, perr: null, hit_at_one: null, learning_rate: 0.1, videos_per_second: null, wait_share: null },
      },
    ],
    validations: [{ epoch: 3, step: 0, values: { loss: 1, gap: 0.25, perr: null, hit_at_one: null, map: 0.1 } }],
    warnings: [{ message: "slow", count: 2 }],
    lastEpoch: 3,
    times: { first: "2026-01-01T00:00:00.000Z", last: "2026-01-02T00:00:00.000Z" },
  });
});

test("the steps of a resumed run replace those after the snapshot, and a new run those of an old one", async (t) => {
  const old = [step(0), step(10), step(20), validation(0, 0.1), step(30), validation(1, 0.2)];
  const resumed = await read(t, [...old, step(20, { loss: 7 }), validation(0, 0.3)]);
  assert.deepEqual(
    resumed.steps.map(({ last, values }) => [last, values.loss]),
    [
      [0, 0],
      [10, 10],
      [20, 7],
    ],
  );
  assert.deepEqual(
    resumed.validations.map(({ epoch, step, values }) => [epoch, step, values.gap]),
    [[0, 20, 0.3]],
  );
  // Several validations of an epoch.
  const inside = [step(0), { ...validation(0, 0.1), step: 0 }, step(1), { ...validation(0, 0.2), step: 1 }, step(2)];
  const repeated = await read(t, [...inside, step(1), { ...validation(0, 0.25), step: 1 }]);
  assert.deepEqual(
    repeated.validations.map(({ step, values }) => [step, values.gap]),
    [
      [0, 0.1],
      [1, 0.25],
    ],
  );
  const fresh = await read(t, [...old, step(0, { loss: 9 })]);
  assert.deepEqual([fresh.steps.map(({ values }) => values.loss), fresh.validations], [[9], []]);
});

test("a long log is read as means of consecutive steps, in order", async (t) => {
  const count = 100_000;
  const lines = Array.from({ length: count }, (_, i) => step(i));
  // As if the run had been killed and resumed.
  const { steps } = await read(t, [...lines.slice(0, 60_500), ...lines.slice(60_000)]);
  assert.ok(steps.length > 500 && steps.length <= 1200, String(steps.length));
  assert.equal(steps[0]?.first, 0);
  assert.equal(steps.at(-1)?.last, count - 1);
  for (const [i, { first, last, values }] of steps.entries()) {
    if (i > 0) assert.equal(first, (steps[i - 1]?.last as number) + 1);
    // All losses are the step's number. The bucket at which the run was resumed has a few steps of both.
    if (last < 59_000 || first > 61_000) assert.ok(Math.abs((values.loss as number) - (first + last) / 2) < 1e-6, `${first}`);
  }
});
