import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, statfsSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { removeDirectory, requireFreeSpace, writeDirectoryAtomic } from "../../src/base/files.js";
import { sweepLeftovers } from "../../src/base/leftovers.js";
import { failsWith, temporaryFolder } from "../helpers/shards.js";

/** A number that no process has. */
const NOBODY = 2 ** 22 + 1;

function makeDirectory(path: string, content: string): void {
  mkdirSync(path);
  writeFileSync(join(path, "content"), content);
}
const contentOf = (path: string): string => readFileSync(join(path, "content"), "utf8");

describe("leftovers", () => {
  test("of a process that is gone are swept; others' files stay", async (t) => {
    const folder = temporaryFolder(t);
    makeDirectory(join(folder, `.a.unfinished-${NOBODY}`), "half");
    makeDirectory(join(folder, `.b.removed-${NOBODY}`), "half");
    writeFileSync(join(folder, `.c.json.unfinished-${NOBODY}`), "half");
    for (const name of [".hidden", "a.unfinished-1", ".a.unfinished-", "b"]) writeFileSync(join(folder, name), "");
    const swept = await sweepLeftovers(folder);
    assert.deepEqual([...swept].sort(), [`.a.unfinished-${NOBODY}`, `.b.removed-${NOBODY}`, `.c.json.unfinished-${NOBODY}`]);
    assert.deepEqual(readdirSync(folder).sort(), [".a.unfinished-", ".hidden", "a.unfinished-1", "b"]);
  });

  test("of files that are not named stay, where names are given", async (t) => {
    const folder = temporaryFolder(t);
    const names = ["a", "b"].map((name) => `.${name}.unfinished-${NOBODY}`) as [string, string];
    for (const name of names) writeFileSync(join(folder, name), "half");
    assert.deepEqual(await sweepLeftovers(folder, new Set(["a"])), [names[0]]);
    assert.deepEqual(readdirSync(folder), [names[1]]);
  });

  test("of a living process stay, unless it is younger than they are", async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, `.a.unfinished-${process.ppid}`);
    makeDirectory(path, "half");
    assert.deepEqual(await sweepLeftovers(folder), []);
    utimesSync(path, 0, 0);
    assert.deepEqual(await sweepLeftovers(folder), [`.a.unfinished-${process.ppid}`]);
  });

  test("of a replacement cut short between its renames: the new directory takes the place", async (t) => {
    const folder = temporaryFolder(t);
    makeDirectory(join(folder, `.best.unfinished-${NOBODY}`), "new");
    makeDirectory(join(folder, `.best.unfinished-${NOBODY}-old`), "old");
    await sweepLeftovers(folder);
    assert.deepEqual(readdirSync(folder), ["best"]);
    assert.equal(contentOf(join(folder, "best")), "new");
  });

  test("of a replacement cut short at its end: the new one is in place, and the old one goes", async (t) => {
    const folder = temporaryFolder(t);
    makeDirectory(join(folder, "best"), "new");
    makeDirectory(join(folder, `.best.unfinished-${NOBODY}-old`), "old");
    await sweepLeftovers(folder);
    assert.deepEqual(readdirSync(folder), ["best"]);
    assert.equal(contentOf(join(folder, "best")), "new");
  });

  test("where the new directory is lost, the old one comes back", async (t) => {
    const folder = temporaryFolder(t);
    makeDirectory(join(folder, `.best.unfinished-${NOBODY}-old`), "old");
    await sweepLeftovers(folder);
    assert.equal(contentOf(join(folder, "best")), "old");
  });
});

test("a directory is removed whole", async (t) => {
  const folder = temporaryFolder(t);
  makeDirectory(join(folder, "a"), "x");
  await removeDirectory(join(folder, "a"));
  assert.deepEqual(readdirSync(folder), []);
  await failsWith(removeDirectory(join(folder, "a")), "FILE_UNWRITABLE", { file: join(folder, "a") });
});

test("free space is asked for before a large write", async (t) => {
  const folder = temporaryFolder(t);
  const { bavail, bsize } = statfsSync(folder);
  await requireFreeSpace(folder, (bavail * bsize) / 2);
  const error = await failsWith(requireFreeSpace(folder, 2 * bavail * bsize), "FILE_UNWRITABLE", { file: folder });
  assert.match(error.message, /too little space is free \(expected \d+\.\d MB, found \d+\.\d MB\)\. Make room there/);
  await requireFreeSpace(join(folder, "nowhere"), 1e18);
});

test("a directory that cannot be finished leaves the old one as it was", async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, "a");
  await writeDirectoryAtomic(path, new Map([["content", "old"]]));
  const failing = function* (): Generator<Uint8Array> {
    yield Buffer.from("new");
    throw Object.assign(new Error("write failed"), { code: "ENOSPC" });
  };
  const error = await failsWith(writeDirectoryAtomic(path, new Map([["content", failing()]])), "FILE_UNWRITABLE", { file: path });
  assert.match(error.message, /no space left on the device\. Make room there/);
  assert.equal(contentOf(path), "old");
  assert.deepEqual(readdirSync(folder), ["a"]);
});
