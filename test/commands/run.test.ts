import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { runIn } from "../../src/commands/run.js";
import { temporaryFolder } from "../helpers/files.js";

const listeners = (): number => process.listenerCount("SIGINT") + process.listenerCount("SIGTERM") + process.listenerCount("SIGUSR1");

test("returns the outcome with exit code 0, and removes the signal handlers", async (context) => {
  const before = listeners();
  const folder = join(temporaryFolder(context), "new");
  const { outcome, exitCode } = await runIn(folder, { name: "x.log.jsonl" }, async ({ signal, onSaveRequest }) => {
    onSaveRequest(() => undefined);
    assert.equal(listeners(), before + 3);
    return { stopped: signal.aborted, videos: 3 };
  });
  assert.deepEqual([outcome, exitCode, listeners()], [{ stopped: false, videos: 3 }, 0, before]);
});

test("rethrows an error after logging its stack, and removes the signal handlers", async (context) => {
  const before = listeners();
  const folder = temporaryFolder(context);
  const failing = runIn(folder, { name: "x.log.jsonl" }, () => Promise.reject(new TypeError("unforeseen")));
  await assert.rejects(failing, { name: "TypeError", message: "unforeseen" });
  assert.match(readFileSync(join(folder, "x.log.jsonl"), "utf8"), /"stack":"TypeError: unforeseen\\n {4}at /);
  assert.equal(listeners(), before);
});
