import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  closeSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  realpathSync,
  rmSync,
  statfsSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { basename, join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import {
  isStream,
  moveFile,
  removeDirectory,
  removeLeftovers,
  requireFreeSpace,
  temporaryName,
  writeDirectoryAtomic,
  writeFileAtomic,
  writeStream,
} from "../../src/base/files.js";
import { reportWaits } from "../../src/base/waiting.js";
import { temporaryFolder } from "../helpers/files.js";
import { failsWith } from "../helpers/shards.js";

/** A process ID that no process has. */
const NOBODY = 2 ** 22 + 1;

function makeDirectory(path: string, content: string): void {
  mkdirSync(path);
  writeFileSync(join(path, "content"), content);
}
const contentOf = (path: string): string => readFileSync(join(path, "content"), "utf8");

describe("temporary files of killed processes", () => {
  test("are removed; other files stay", async (t) => {
    const folder = temporaryFolder(t);
    makeDirectory(join(folder, `.a.unfinished-${NOBODY}`), "half");
    makeDirectory(join(folder, `.b.removed-${NOBODY}`), "half");
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
    makeDirectory(path, "half");
    assert.deepEqual(await removeLeftovers(folder), []);
    utimesSync(path, 0, 0);
    assert.deepEqual(await removeLeftovers(folder), [`.a.unfinished-${process.ppid}`]);
  });

  test("of a replacement that ended between its renames: the new directory is renamed to its final name", async (t) => {
    const folder = temporaryFolder(t);
    for (const random of ["", "-0123456789ab"]) {
      makeDirectory(join(folder, `.best.unfinished-${NOBODY}${random}`), "new");
      makeDirectory(join(folder, `.best.unfinished-${NOBODY}${random}-old`), "old");
      await removeLeftovers(folder);
      assert.deepEqual(readdirSync(folder), ["best"]);
      assert.equal(contentOf(join(folder, "best")), "new");
      rmSync(join(folder, "best"), { recursive: true });
    }
  });

  test("of a replacement that ended after its renames: the new directory stays, and the old one is removed", async (t) => {
    const folder = temporaryFolder(t);
    makeDirectory(join(folder, "best"), "new");
    makeDirectory(join(folder, `.best.unfinished-${NOBODY}-old`), "old");
    await removeLeftovers(folder);
    assert.deepEqual(readdirSync(folder), ["best"]);
    assert.equal(contentOf(join(folder, "best")), "new");
  });

  test("if the new directory is lost, the old one is restored", async (t) => {
    const folder = temporaryFolder(t);
    makeDirectory(join(folder, `.best.unfinished-${NOBODY}-old`), "old");
    await removeLeftovers(folder);
    assert.equal(contentOf(join(folder, "best")), "old");
  });
});

test("a directory is removed completely", async (t) => {
  const folder = temporaryFolder(t);
  makeDirectory(join(folder, "a"), "x");
  await removeDirectory(join(folder, "a"));
  assert.deepEqual(readdirSync(folder), []);
  await failsWith(removeDirectory(join(folder, "a")), "FILE_UNWRITABLE", { file: join(folder, "a") });
});

test("no folder is created if the path is too long", async (t) => {
  const folder = temporaryFolder(t);
  await failsWith(writeFileAtomic(join(folder, "x/".repeat(2500), "a"), "x"), "FILE_UNWRITABLE");
  assert.deepEqual(readdirSync(folder), []);
});

test("too little free space is an error before a large write", async (t) => {
  const folder = temporaryFolder(t);
  const { bavail, bsize } = statfsSync(folder);
  await requireFreeSpace(folder, (bavail * bsize) / 2);
  const error = await failsWith(requireFreeSpace(folder, 2 * bavail * bsize), "FILE_UNWRITABLE", { file: folder });
  assert.match(error.message, /not enough free space \(expected \d+\.\d MB, found \d+\.\d MB\)\. Free disk space there/);
  await requireFreeSpace(join(folder, "nowhere"), 1e18);
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

  test("is written to the target of a link, also through links in its folders, and the link stays", async (t) => {
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

  test("is written to a pipe at the reader's speed, and a wait for a reader is reported", async (t) => {
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
