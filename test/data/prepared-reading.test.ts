import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { openStream, prepareReading } from "../../src/data/stream.js";
import { temporaryFolder } from "../helpers/files.js";
import { collect, streamOptions, writeShards } from "../helpers/shards.js";

// In its own file, because a process keeps its threads: no earlier stream may have started any.
test("the next stream uses the threads that were started in advance", async (t) => {
  const threads = (): number => readdirSync("/proc/self/task").length;
  const { shards, content } = await writeShards(temporaryFolder(t), [9, 4, 7]);
  const before = threads();
  prepareReading(2);
  // One batch thread and two reading threads.
  while (threads() < before + 3) await setTimeout(5);
  prepareReading(2);
  const ids = await collect(openStream(streamOptions({ shards, readers: 2 })), (batch) => batch.ids);
  assert.deepEqual(
    ids.flat(),
    content.flat().map(({ id }) => id),
  );
  assert.equal(threads(), before + 3);
});
