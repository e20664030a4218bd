import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { assertSameContents, fingerprintList, readContents } from "../../src/data/shard.js";
import { writeShard } from "../../src/data/shard-writer.js";
import { blockFiles, temporaryFolder } from "../helpers/files.js";
import { learnableVideo } from "../helpers/runs.js";
import { examined } from "../helpers/shards.js";

test("a replaced shard of the same name and size is detected by its time and ends; a copy of the same content passes", async (t) => {
  const folder = temporaryFolder(t);
  const [shard, other] = [join(folder, "a.tfrecord"), join(folder, "b.tfrecord")];
  await writeShard(shard, [learnableVideo(0), learnableVideo(1), learnableVideo(2)]);
  await writeShard(other, [learnableVideo(3)]);
  const list = () => [other, shard].map(examined);
  const [then, contents] = [fingerprintList(list()), await readContents(list())];
  const compare = async (corrupt?: string): Promise<void> => {
    assert.deepEqual(fingerprintList(list()), then);
    assertSameContents(list(), contents, await readContents(list()), { key: "TRAIN.filelist", remedy: "restore it", corrupt });
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

test("a pipe is not opened, which would block until it has a writer; a missing shard is reported by its reader", async (t) => {
  const folder = temporaryFolder(t);
  execFileSync("mkfifo", [join(folder, "pipe")]);
  const contents = await readContents(["pipe", "missing"].map((name) => examined(join(folder, name))));
  assert.deepEqual(contents, { modified_ms: [0, 0], ends_crc32c: [null, null] });
});

test("of a shard whose reads never return, only the modification time is known, within the time limit", async (t) => {
  const folder = temporaryFolder(t);
  const paths = ["held.tfrecord", "a.tfrecord"].map((name) => join(folder, name));
  for (const path of paths) await writeShard(path, [learnableVideo(0)]);
  const shards = paths.map(examined);
  const answered = await readContents(shards);
  const release = await blockFiles(t, paths.slice(0, 1));
  const contents = await readContents(shards, 500);
  await release();
  assert.deepEqual(contents.modified_ms, answered.modified_ms);
  assert.deepEqual(contents.ends_crc32c, [null, answered.ends_crc32c[1]]);
  utimesSync(paths[0] as string, 1, 1);
  const touched = paths.map(examined);
  assertSameContents(touched, contents, await readContents(touched), { key: "TRAIN.filelist", remedy: "restore it" });
});
