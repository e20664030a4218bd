import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { moveFile, removeDirectory, writeDirectoryAtomic, writeFileAtomic } from "../../src/base/files.js";
import { temporaryFolder } from "../helpers/files.js";
import { failsWith } from "../helpers/shards.js";

function createDirectory(path: string, content: string): void {
  mkdirSync(path);
  writeFileSync(join(path, "content"), content);
}
const contentOf = (path: string): string => readFileSync(join(path, "content"), "utf8");

test("a directory is removed completely", async (t) => {
  const folder = temporaryFolder(t);
  createDirectory(join(folder, "a"), "x");
  await removeDirectory(join(folder, "a"));
  assert.deepEqual(readdirSync(folder), []);
  await failsWith(removeDirectory(join(folder, "a")), "FILE_UNWRITABLE", { file: join(folder, "a") });
});

test("no directory is created if the path is too long", async (t) => {
  const folder = temporaryFolder(t);
  await failsWith(writeFileAtomic(join(folder, "x/".repeat(2500), "a"), "x"), "FILE_UNWRITABLE");
  assert.deepEqual(readdirSync(folder), []);
});

test("a directory that cannot be written leaves the old one unchanged", async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, "a");
  await writeDirectoryAtomic(path, new Map([["content", "old"]]));
  const failing = function* (): Generator<Uint8Array> {
    yield Buffer.from("new");
    throw Object.assign(new Error("write failed"), { code: "ENOSPC" });
  };
  const error = await failsWith(writeDirectoryAtomic(path, new Map([["content", failing()]])), "FILE_UNWRITABLE", { file: path });
  assert.match(error.message, /no space left on the device\. Free disk space/);
  assert.equal(contentOf(path), "old");
  assert.deepEqual(readdirSync(folder), ["a"]);
});

/** Creates special files; returns their paths by kind. Includes a device only if the test may create one. */
async function makeSpecial(t: TestContext, folder: string): Promise<Map<string, string>> {
  const found = new Map([["a pipe", join(folder, "pipe")]]);
  execFileSync("mkfifo", [join(folder, "pipe")]);
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(join(folder, "socket"), resolve));
  t.after(() => server.close());
  found.set("a socket", join(folder, "socket"));
  try {
    execFileSync("mknod", [join(folder, "null"), "c", "1", "3"], { stdio: "ignore" });
    found.set("a character device", join(folder, "null"));
  } catch {
    t.diagnostic("device nodes are skipped: mknod is not permitted here");
  }
  return found;
}

describe("an output", () => {
  test("replaces only regular files; anything else is an error and stays unchanged", async (t) => {
    const folder = temporaryFolder(t);
    const special = await makeSpecial(t, folder);
    mkdirSync(join(folder, "directory"));
    special.set("a directory", join(folder, "directory"));
    const names = readdirSync(folder);
    writeFileSync(join(temporaryFolder(t), "from"), "new");
    for (const [kind, path] of special) {
      symlinkSync(path, `${path}-link`);
      const before = lstatSync(path);
      for (const place of [path, `${path}-link`]) {
        for (const write of [() => writeFileAtomic(place, "new"), () => moveFile(join(folder, "from"), place)]) {
          const error = await failsWith(write(), "FILE_UNWRITABLE", { file: place, found: kind });
          assert.match(error.message, /cannot replace it: it is not a regular file \(found a .*\)\. Use another path/);
        }
        if (kind !== "a directory")
          await failsWith(writeDirectoryAtomic(place, new Map([["a", "new"]])), "FILE_UNWRITABLE", { file: place, found: kind });
      }
      if (kind !== "a directory") await failsWith(removeDirectory(path), "FILE_UNWRITABLE", { file: path, found: kind });
      assert.deepEqual([lstatSync(path).ino, lstatSync(path).mode], [before.ino, before.mode]);
      rmSync(`${path}-link`);
    }
    assert.deepEqual(readdirSync(folder), names);
  });

  test("is written to the target of a link, also through links in its parent directories, and the link stays", async (t) => {
    const folder = realpathSync(temporaryFolder(t));
    mkdirSync(join(folder, "far/deep"), { recursive: true });
    mkdirSync(join(folder, "near"));
    // `..` is relative to the link's target.
    symlinkSync(join(folder, "far/deep"), join(folder, "near/folder"));
    symlinkSync("folder/../a", join(folder, "near/a"));
    for (const text of ["first", "second"]) {
      await writeFileAtomic(join(folder, "near/a"), text);
      assert.equal(readFileSync(join(folder, "far/a"), "utf8"), text);
    }
    writeFileSync(join(folder, "from"), "moved");
    await moveFile(join(folder, "from"), join(folder, "near/a"));
    assert.equal(readFileSync(join(folder, "far/a"), "utf8"), "moved");
    symlinkSync(join(folder, "far/best"), join(folder, "near/best"));
    for (const text of ["first", "second"]) {
      await writeDirectoryAtomic(join(folder, "near/best"), new Map([["content", text]]));
      assert.equal(contentOf(join(folder, "far/best")), text);
    }
    assert.deepEqual(readdirSync(join(folder, "near")), ["a", "best", "folder"]);
    assert.deepEqual(readdirSync(join(folder, "far")), ["a", "best", "deep"]);
    assert.ok(["a", "best"].every((name) => lstatSync(join(folder, "near", name)).isSymbolicLink()));
    symlinkSync("loop", join(folder, "loop"));
    const error = await failsWith(writeFileAtomic(join(folder, "loop"), "x"), "FILE_UNWRITABLE");
    assert.match(error.message, /its symbolic links form a cycle/);
  });

  test("is never written through a planted link: temporary names are unpredictable, and existing files are not opened", async (t) => {
    const folder = temporaryFolder(t);
    const target = join(folder, "target");
    writeFileSync(target, "kept");
    // Temporary names of earlier versions.
    symlinkSync(target, join(folder, `.a.unfinished-${process.pid}`));
    mkdirSync(join(folder, `.d.unfinished-${process.pid}`));
    await writeFileAtomic(join(folder, "a"), "new");
    await writeDirectoryAtomic(join(folder, "d"), new Map([["content", "new"]]));
    assert.equal(readFileSync(target, "utf8"), "kept");
    assert.equal(lstatSync(join(folder, "a")).isFile(), true);
    assert.deepEqual(readdirSync(join(folder, `.d.unfinished-${process.pid}`)), []);
    // A link inside a directory that is being written is not followed either.
    const failed = writeDirectoryAtomic(
      join(folder, "e"),
      (async function* (): AsyncGenerator<readonly [string, string]> {
        const unfinished = readdirSync(folder).find((name) => name.startsWith(".e.unfinished-")) as string;
        symlinkSync(target, join(folder, unfinished, "content"));
        yield ["content", "new"];
      })(),
    );
    await failsWith(failed, "FILE_UNWRITABLE");
    assert.equal(readFileSync(target, "utf8"), "kept");
    assert.equal(existsSync(join(folder, "e")), false);
  });
});
