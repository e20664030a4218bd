import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import type { OpenShard } from "../../src/data/reader-pool.js";
import { describeStall, type Stall, StallWatch } from "../../src/data/stall-watch.js";
import { openStream } from "../../src/data/stream.js";
import { blockFiles, temporaryFolder } from "../helpers/files.js";
import { collect, streamOptions, writeShards } from "../helpers/shards.js";

const shard = (path: string, openMs: number, quietMs: number | null, waitedMs: number | null): OpenShard => ({
  path,
  openMs,
  quietMs,
  waitedMs,
});

describe("a stream whose shard cannot be read", () => {
  test("reports what it waits for at growing intervals, and nothing while batches arrive", async (t) => {
    const folder = temporaryFolder(t);
    const { shards } = await writeShards(folder, [10, 5]);
    const path = shards[1] as string;
    const release = await blockFiles(t, [path]);
    const stalls: Stall[] = [];
    const batches: number[] = [];
    // Ignores stalls before the first two batches: the threads may take longer to start on a busy machine.
    const onStall = (stall: Stall): unknown => batches.length === 2 && stalls.push(stall);
    const stream = openStream(streamOptions({ shards, readers: 1 }), { onStall }, 200);
    const reading = (async () => {
      for await (const { ids } of stream) batches.push(ids.length);
    })();
    while (stalls.length < 3) await setTimeout(10);
    await release();
    await reading;
    assert.deepEqual(batches, [5, 5, 5]);
    for (const [i, { waitedMs, shards: open }] of stalls.entries()) {
      // Node's timers count whole milliseconds and may fire up to one early by the finer clock.
      assert.ok(waitedMs >= 200 * 2 ** i - 2 && waitedMs < 200 * 2 ** i + 1500, `${waitedMs}`);
      const [first] = open ?? [];
      assert.deepEqual([first?.path, first?.quietMs], [path, null]);
      assert.ok((first?.waitedMs ?? 0) > waitedMs / 2 && (first?.openMs ?? 0) >= (first?.waitedMs ?? 0));
    }
    assert.equal(stalls.length, 3);
  });

  test("can be closed, within bounded time, which stops its threads", async (t) => {
    const threads = () => readdirSync("/proc/self/task").length;
    const { shards } = await writeShards(temporaryFolder(t), [5]);
    await blockFiles(t, shards);
    let isOpened = false;
    const onStall = ({ shards: open }: Stall): unknown => (isOpened ||= (open ?? []).length > 0);
    const stream = openStream(streamOptions({ shards }), { onStall }, 100);
    const reading = collect(stream);
    while (!isOpened) await setTimeout(10);
    const open = threads();
    const since = performance.now();
    await stream.close();
    assert.deepEqual(await reading, []);
    // 2 s to close its files, 5 s for its threads to exit by themselves, and 1 s to terminate them, which a blocked system call prevents.
    assert.ok(performance.now() - since < 12_000);
    assert.ok(threads() < open, `${threads()} threads, ${open} while it was open`);
  });
});

test("a batch thread that does not reply is reported, and a wait that has ended is not", async () => {
  const stalls: Stall[] = [];
  let requests = 0;
  const watch = new StallWatch(
    20,
    () => requests++,
    (stall) => stalls.push(stall),
  );
  watch.begin();
  while (stalls.length === 0) await setTimeout(10);
  assert.equal(stalls[0]?.shards, null);
  watch.end();
  const asked = requests;
  watch.onReply([]);
  await setTimeout(100);
  assert.deepEqual([stalls.length, requests], [1, asked]);
  assert.ok(asked > 1);
});

test("the message starts with the longest-awaited shard, and distinguishes slow data from none", () => {
  const shards = [shard("/a", 62_000, null, 61_000), shard("/b", 80_000, 61_000, null)];
  assert.equal(
    describeStall({ waitedMs: 60_000, shards }),
    "no batch for 60 s: /a (waited for 61 s, nothing read since it was opened 62 s ago); " +
      "/b (open, last read 61 s ago). Is the disk or network file system responding?",
  );
  const many = Array.from({ length: 20 }, (_, i) => shard(`/${i}`, 1000, null, null));
  assert.match(describeStall({ waitedMs: 1500, shards: many }), /^no batch for 1\.5 s: \/0 .*\/7 \(.*\); and 12 more\./);
  assert.match(
    describeStall({ waitedMs: 60_000, shards: [shard("/a", 62_000, 20, 20)] }),
    /but data arrives, most recently from \/a: a run that resumes/,
  );
  assert.match(describeStall({ waitedMs: 60_000, shards: [] }), /no shard is open/);
  assert.match(describeStall({ waitedMs: 60_000, shards: null }), /does not reply/);
});
