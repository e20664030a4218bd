import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import {
  RECORD_BUDGET_BYTES,
  releaseRecord,
  releaseThread,
  reserveRecord,
  shareRecordBudget,
} from "../../../src/formats/containers/record-buffer.js";

const LARGE = 0.6 * RECORD_BUDGET_BYTES;

/** Whether a promise is still pending after the budget was polled several times. */
async function isPending(promise: Promise<void>): Promise<boolean> {
  return Promise.race([promise.then(() => false), setTimeout(50, true)]);
}

test("a second long record waits until the first is released", async () => {
  await reserveRecord(LARGE);
  const second = reserveRecord(LARGE);
  assert.ok(await isPending(second));
  releaseRecord(LARGE);
  await second;
  releaseRecord(LARGE);
});

test("a record longer than the whole budget is read alone", async () => {
  await reserveRecord(2 * RECORD_BUDGET_BYTES);
  const small = reserveRecord(LARGE / 2);
  assert.ok(await isPending(small));
  releaseRecord(2 * RECORD_BUDGET_BYTES);
  await small;
  releaseRecord(LARGE / 2);
});

test("all threads share the budget, and the reservations of a thread that ended are released", async () => {
  shareRecordBudget();
  const module = new URL("../../../src/formats/containers/record-buffer.js", import.meta.url).href;
  const code = `import("${module}").then(async ({ reserveRecord }) => { await reserveRecord(${LARGE}); require("node:worker_threads").parentPort.once("message", () => process.exit()).postMessage("reserved"); });`;
  const worker = new Worker(code, { eval: true });
  const { threadId } = worker;
  await once(worker, "message");
  const here = reserveRecord(LARGE);
  assert.ok(await isPending(here));
  worker.postMessage("end");
  await once(worker, "exit");
  releaseThread(threadId);
  await here;
  releaseRecord(LARGE);
});
