import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ScoreRows } from "../../src/evaluation/score-rows.js";
import { rankStoredScores, ScoreSpaceCheck, TemporaryScores } from "../../src/passes/stored-scores.js";
import { fillDisk, temporaryFolder } from "../helpers/files.js";

test("temporary scores have no name, are read in pieces of whole videos, and are gone when closed", async (t) => {
  const folder = temporaryFolder(t);
  // 4 MiB and 12 bytes: each video is a piece of its own.
  const classes = 2 ** 20 + 3;
  const rows = new ScoreRows(classes);
  const scores = await TemporaryScores.create(folder, rows);
  assert.deepEqual(readdirSync(folder), []);
  const last = classes - 1;
  const positives = new Float64Array(classes);
  positives[last] = 1;
  for (const [i, score] of [0.5, 0.25, 0.75].entries()) {
    rows.add(new Float32Array(classes).fill(score), [Int32Array.from(i === 0 ? [last] : [])]);
    await scores.endBatch(1, (i + 1) / 3);
  }
  const { aps, aucs, classes: counted } = await scores.rank(positives);
  assert.deepEqual([aps[last], aucs[last], aps[0], counted], [0.5, 0.5, Number.NaN, 1]);
  await scores.close();
});

test("a full disk is an error that names the directory", async (t) => {
  const folder = temporaryFolder(t);
  const rows = new ScoreRows(2);
  const scores = await TemporaryScores.create(folder, rows);
  const links = readdirSync("/proc/self/fd").map((name) => {
    try {
      return readlinkSync(join("/proc/self/fd", name));
    } catch {
      return "";
    }
  });
  fillDisk(links.find((link) => link.startsWith(folder)) as string);
  rows.add(Float32Array.of(0.5, 0.5), [Int32Array.of(1)]);
  await assert.rejects(scores.endBatch(1, 1), (error: Error) => {
    assert.equal(error.message, `${folder}: cannot write: no space left on the device. Free disk space, or use another directory.`);
    return true;
  });
  await scores.close();
  await assert.rejects(TemporaryScores.create(join(folder, "none"), rows), { code: "FILE_UNWRITABLE" });
});

test("a file of scores that ends within a video is an error, as is a missing one", async (t) => {
  const file = join(temporaryFolder(t), "scores.bin");
  await assert.rejects(rankStoredScores(file, new Float64Array(2)), { code: "FILE_MISSING" });
  const rows = new ScoreRows(2);
  rows.add(Float32Array.of(0.25, 0.5, 0.75, 1), [Int32Array.of(0), Int32Array.of(1)]);
  writeFileSync(file, rows.take());
  assert.deepEqual((await rankStoredScores(file, Float64Array.of(1, 1))).aucs, Float64Array.of(0, 1));
  writeFileSync(file, readFileSync(file).subarray(0, 12));
  const message = /scores\.bin: the scores end within a video \(expected videos of 8 bytes, found 12\)\. Start from the beginning/;
  await assert.rejects(rankStoredScores(file, Float64Array.of(1, 1)), { code: "BAD_RESULTS", message });
});

test("the space for all scores is checked once, when 16 MiB are written", async (t) => {
  const folder = temporaryFolder(t);
  const rows = new ScoreRows(2 ** 20);
  const check = new ScoreSpaceCheck();
  // A pass of 1e12 videos.
  const after = (videos: number) => check.endBatch(folder, rows, { videos, fraction: videos / 1e12 });
  await after(3);
  const words = /not enough free space for the scores of all videos.*\(expected \d+\.\d MB, found .*omit --full-ranking\.$/;
  await assert.rejects(after(4), { code: "FILE_UNWRITABLE", message: words });
  await after(5);
  await new ScoreSpaceCheck().endBatch(folder, rows, { videos: 4, fraction: 1 });
});
