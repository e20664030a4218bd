import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assertSameContents, fingerprintList, type Shard, shardContents } from "../../src/data/shard.js";
import { writeShard } from "../../src/data/shard-writer.js";
import { temporaryFolder } from "../helpers/files.js";
import { learnableVideo } from "../helpers/runs.js";
import { examinedEnds } from "../helpers/shards.js";

test("a replaced shard of the same name and size is detected by its time and ends; a copy of the same content passes", async (t) => {
  const folder = temporaryFolder(t);
  const [shard, other] = [join(folder, "a.tfrecord"), join(folder, "b.tfrecord")];
  await writeShard(shard, [learnableVideo(0), learnableVideo(1), learnableVideo(2)]);
  await writeShard(other, [learnableVideo(3)]);
  const list = () => Promise.all([other, shard].map(examinedEnds));
  const { contents, ...then } = fingerprintList(await list());
  assert.ok(contents);
  const compare = async (corrupt?: string): Promise<void> => {
    const shards = await list();
    const { contents: now, ...rest } = fingerprintList(shards);
    assert.deepEqual([rest, now], [then, shardContents(shards)]);
    assertSameContents(shards, contents, { key: "TRAIN.filelist", remedy: "restore it", corrupt });
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
      assert.match(what, /has changed since the run started, although its name and size are the same$/);
      assert.match(expected, /^1970-01-01T00:00:01\.000Z|^20/);
      assert.notEqual(expected, found);
      return true;
    });
    await compare("a.tfrecord");
  }
  utimesSync(shard, 0, ((contents.modified_ms[1] as number) + 0.5) / 1000);
  assert.equal(Math.trunc(statSync(shard).mtimeMs), contents.modified_ms[1]);
  await compare();
});

test("a shard with an unknown checksum, or another one but the same time, counts as unchanged; a shard that is not a file has no time", () => {
  const details = { key: "TRAIN.filelist", remedy: "restore it" };
  const shard: Shard = { path: "/a.tfrecord", bytes: 1, modifiedMs: 1, endsCrc32c: "00000001" };
  const contents = shardContents([shard]);
  assert.deepEqual(contents, { modified_ms: [1], ends_crc32c: ["00000001"] });
  const unknown = { ...shard, modifiedMs: null, endsCrc32c: null };
  assert.deepEqual(shardContents([unknown]), { modified_ms: [0], ends_crc32c: [null] });
  assertSameContents([unknown], contents, details);
  assertSameContents([shard], shardContents([unknown]), details);
  assertSameContents([{ ...shard, endsCrc32c: "00000002" }], contents, details);
});
