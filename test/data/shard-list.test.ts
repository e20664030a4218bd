import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assertSameContents, describeShards } from "../../src/data/shard-list.js";
import { writeShard } from "../../src/data/shard-writer.js";
import { holdFiles } from "../helpers/held-files.js";
import { learnableVideo } from "../helpers/runs.js";
import { temporaryFolder } from "../helpers/shards.js";

test("a shard with other content of the same name and size is noticed by its time and ends; a copy of the same content passes", async (t) => {
  const folder = temporaryFolder(t);
  const [shard, other] = [join(folder, "a.tfrecord"), join(folder, "b.tfrecord")];
  await writeShard(shard, [learnableVideo(0), learnableVideo(1), learnableVideo(2)]);
  await writeShard(other, [learnableVideo(3)]);
  const shards = [other, shard];
  const then = await describeShards(shards);
  const compare = async (corrupt?: string): Promise<void> => {
    const now = await describeShards(shards);
    assert.deepEqual([now.count, now.crc32c], [then.count, then.crc32c]);
    assertSameContents(shards, then.contents, now.contents, { key: "TRAIN.filelist", remedy: "restore it", corrupt });
  };
  await compare();
  copyFileSync(shard, `${shard}.copy`);
  execFileSync("mv", [`${shard}.copy`, shard]);
  utimesSync(shard, 1, 1);
  await compare();

  const bytes = readFileSync(shard);
  const length = Number(bytes.readBigUInt64LE(0));
  // The checksum of the first record's data, and the last byte of the last record's checksum.
  for (const place of [12 + length, bytes.length - 1]) {
    const changed = Buffer.from(bytes);
    changed[place] = (changed[place] as number) ^ 1;
    writeFileSync(shard, changed);
    const details = { code: "BAD_CONFIG", details: { file: shard, key: "TRAIN.filelist", remedy: "restore it" } };
    await assert.rejects(compare(), ({ code, what, details: { expected, found, ...rest } }) => {
      assert.deepEqual({ code, details: rest }, details);
      assert.match(what, /has changed since the run began, although its name and size are the same$/);
      assert.match(expected, /^1970-01-01T00:00:01\.000Z|^20/);
      assert.notEqual(expected, found);
      return true;
    });
    await compare("a.tfrecord");
  }
  utimesSync(shard, 0, ((then.contents.modified_ms[1] as number) + 0.5) / 1000);
  assert.equal(Math.trunc(statSync(shard).mtimeMs), then.contents.modified_ms[1]);
  await compare();
});

test("a pipe is not opened, which would wait for its writer, and a missing shard is its reader's to report", async (t) => {
  const folder = temporaryFolder(t);
  execFileSync("mkfifo", [join(folder, "pipe")]);
  const { contents } = await describeShards([join(folder, "pipe"), join(folder, "missing")]);
  assert.deepEqual(contents, { modified_ms: [0, 0], ends_crc32c: [null, null] });
});

test("shards that never answer are known by size and modification time only, within the time limit", async (t) => {
  const folder = temporaryFolder(t);
  const shards = ["held.tfrecord", "a.tfrecord"].map((name) => join(folder, name));
  for (const shard of shards) await writeShard(shard, [learnableVideo(0)]);
  const answered = await describeShards(shards);
  const release = await holdFiles(t, shards.slice(0, 1));
  const { crc32c, contents } = await describeShards(shards, undefined, 100);
  await release();
  assert.equal(crc32c, answered.crc32c);
  assert.deepEqual(contents.modified_ms, answered.contents.modified_ms);
  assert.deepEqual(contents.ends_crc32c, [null, answered.contents.ends_crc32c[1]]);
  utimesSync(shards[0] as string, 1, 1);
  assertSameContents(shards, contents, (await describeShards(shards)).contents, { key: "TRAIN.filelist", remedy: "restore it" });
});
