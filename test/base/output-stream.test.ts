import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, constants, lstatSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { isStream, writeStream } from "../../src/base/output-stream.js";
import { reportWaits } from "../../src/base/waiting.js";
import { temporaryFolder } from "../helpers/files.js";

test("a pipe is written to at the reader's speed, and a wait for a reader is reported", async (t) => {
  const folder = temporaryFolder(t);
  const pipe = join(folder, "pipe");
  execFileSync("mkfifo", [pipe]);
  assert.deepEqual(await Promise.all([pipe, "/dev/stdout", folder, join(folder, "none")].map(isStream)), [true, true, false, false]);
  const reports: string[] = [];
  t.after(reportWaits((line) => reports.push(line)));
  const pieces = Array.from({ length: 40 }, (_, i) => new Uint8Array(10_000).fill(i));
  const writing = writeStream(pipe, pieces);
  for (const end = Date.now() + 5000; reports.length === 0 && Date.now() < end; ) await delay(20);
  assert.deepEqual(reports, [`waiting for a reader of the pipe ${pipe}`]);
  const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
  const received: Buffer[] = [];
  let isDone = false;
  void writing.then(() => {
    isDone = true;
  });
  for (const buffer = Buffer.alloc(1 << 16); ; await delay(1)) {
    let count = 0;
    try {
      count = readSync(reader, buffer);
    } catch {
      continue;
    }
    received.push(Buffer.from(buffer.subarray(0, count)));
    if (count === 0 && isDone) break;
  }
  assert.ok(Buffer.concat(received).equals(Buffer.concat(pieces)));
  closeSync(reader);
  assert.ok(lstatSync(pipe).isFIFO());
});
