import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, test } from "node:test";
import { writeFileAtomic } from "../../src/base/files.js";
import { removeLeftovers, temporaryName } from "../../src/base/leftovers.js";
import { temporaryFolder } from "../helpers/files.js";

/** A process ID that no process has. */
const NOBODY = 2 ** 22 + 1;

function createDirectory(path: string, content: string): void {
  mkdirSync(path);
  writeFileSync(join(path, "content"), content);
}
const contentOf = (path: string): string => readFileSync(join(path, "content"), "utf8");

describe("temporary files of killed processes", () => {
  test("are removed; other files stay", async (t) => {
    const folder = temporaryFolder(t);
    createDirectory(join(folder, `.a.unfinished-${NOBODY}`), "half");
    createDirectory(join(folder, `.b.removed-${NOBODY}`), "half");
    writeFileSync(join(folder, `.c.json.unfinished-${NOBODY}`), "half");
    for (const name of [".hidden", "a.unfinished-1", ".a.unfinished-", "b"]) writeFileSync(join(folder, name), "");
    const swept = await removeLeftovers(folder);
    assert.deepEqual([...swept].sort(), [`.a.unfinished-${NOBODY}`, `.b.removed-${NOBODY}`, `.c.json.unfinished-${NOBODY}`]);
    assert.deepEqual(readdirSync(folder).sort(), [".a.unfinished-", ".hidden", "a.unfinished-1", "b"]);
  });

  test("have names with a random part, or without one in earlier versions", async (t) => {
    const folder = temporaryFolder(t);
    const names = Array.from({ length: 50 }, () => basename(temporaryName(join(folder, "a"), "unfinished")));
    assert.equal(new Set(names).size, names.length);
    for (const name of names) writeFileSync(join(folder, name.replace(`-${process.pid}-`, `-${NOBODY}-`)), "half");
    writeFileSync(join(folder, `.a.unfinished-${NOBODY}-nothex`), "kept");
    assert.equal((await removeLeftovers(folder)).length, names.length);
    assert.deepEqual(readdirSync(folder), [`.a.unfinished-${NOBODY}-nothex`]);
  });

  test("are created and removed also for the longest names that a file system allows", async (t) => {
    const folder = temporaryFolder(t);
    for (const name of ["n".repeat(255), "\u{1F600}".repeat(63), `é${"\u{1F600}".repeat(63)}`]) {
      await writeFileAtomic(join(folder, name), name);
      assert.equal(readFileSync(join(folder, name), "utf8"), name);
      const left = basename(temporaryName(join(folder, name), "unfinished"));
      writeFileSync(join(folder, left), "");
      assert.deepEqual(await removeLeftovers(folder, new Set([name])), [left]);
    }
  });

  test("stay if names are given and do not include theirs", async (t) => {
    const folder = temporaryFolder(t);
    const names = ["a", "b"].map((name) => `.${name}.unfinished-${NOBODY}`) as [string, string];
    for (const name of names) writeFileSync(join(folder, name), "half");
    assert.deepEqual(await removeLeftovers(folder, new Set(["a"])), [names[0]]);
    assert.deepEqual(readdirSync(folder), [names[1]]);
  });

  test("stay while their process runs, unless it is younger than they are", async (t) => {
    const folder = temporaryFolder(t);
    const path = join(folder, `.a.unfinished-${process.ppid}`);
    createDirectory(path, "half");
    assert.deepEqual(await removeLeftovers(folder), []);
    utimesSync(path, 0, 0);
    assert.deepEqual(await removeLeftovers(folder), [`.a.unfinished-${process.ppid}`]);
  });

  test("of a replacement that ended between its renames: the new directory is renamed to its final name", async (t) => {
    const folder = temporaryFolder(t);
    for (const random of ["", "-0123456789ab"]) {
      createDirectory(join(folder, `.best.unfinished-${NOBODY}${random}`), "new");
      createDirectory(join(folder, `.best.unfinished-${NOBODY}${random}-old`), "old");
      await removeLeftovers(folder);
      assert.deepEqual(readdirSync(folder), ["best"]);
      assert.equal(contentOf(join(folder, "best")), "new");
      rmSync(join(folder, "best"), { recursive: true });
    }
  });

  test("of a replacement that ended after its renames: the new directory stays, and the old one is removed", async (t) => {
    const folder = temporaryFolder(t);
    createDirectory(join(folder, "best"), "new");
    createDirectory(join(folder, `.best.unfinished-${NOBODY}-old`), "old");
    await removeLeftovers(folder);
    assert.deepEqual(readdirSync(folder), ["best"]);
    assert.equal(contentOf(join(folder, "best")), "new");
  });

  test("if the new directory is lost, the old one is restored", async (t) => {
    const folder = temporaryFolder(t);
    createDirectory(join(folder, `.best.unfinished-${NOBODY}-old`), "old");
    await removeLeftovers(folder);
    assert.equal(contentOf(join(folder, "best")), "old");
  });
});
