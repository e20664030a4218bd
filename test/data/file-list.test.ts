import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, linkSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { describeFileList, describeRepeated, findShards, formatFileList, resolveShards } from "../../src/data/file-list.js";
import { encodeTfRecord } from "../../src/formats/containers/tfrecord.js";
import { temporaryFolder } from "../helpers/files.js";
import { examined, failsWith } from "../helpers/shards.js";

const SHARD = encodeTfRecord(Buffer.from("record"));

/** Calls `findShards`, checks that each shard was examined, and returns the paths of the shards. */
async function findPaths(...[list, options]: Parameters<typeof findShards>) {
  const found = await findShards(list, options);
  for (const shard of found.shards) assert.deepEqual(shard, examined(shard.path));
  return { ...found, shards: found.shards.map(({ path }) => path) };
}

async function resolvePaths(...[list, options]: Parameters<typeof resolveShards>): Promise<string[]> {
  return (await resolveShards(list, options)).map(({ path }) => path);
}

/** Creates a folder that contains these shards. */
function folderWith(t: TestContext, ...names: readonly string[]): string {
  const folder = temporaryFolder(t);
  for (const name of names) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), SHARD);
  }
  return folder;
}

function writeList(folder: string, name: string, content: string): void {
  mkdirSync(dirname(join(folder, name)), { recursive: true });
  writeFileSync(join(folder, name), content);
}

describe("a file list", () => {
  test("keeps its order and ignores blank lines, comments, spaces, Windows line ends and a byte-order mark", async (t) => {
    const cwd = folderWith(t, "b", "a", "c");
    writeList(cwd, "all.list", "\uFEFFb\r\n\r\n# a comment\n  a  \n\t\n#c\nc");
    assert.deepEqual(
      await resolvePaths("all.list", { cwd }),
      ["b", "a", "c"].map((name) => join(cwd, name)),
    );
  });

  test("returns a shard as often as it is listed, in any spelling, and counts it", async (t) => {
    const cwd = folderWith(t, "a", "b", "c");
    writeList(cwd, "all.list", `a\n./a\nb\n${join(cwd, "a")}\nc\na\nb\n`);
    const { shards, repeated, problem } = await findPaths("all.list", { cwd });
    const [a, b, c] = ["a", "b", "c"].map((name) => join(cwd, name)) as [string, string, string];
    assert.deepEqual([shards, problem], [[a, a, b, a, c, a, b], null]);
    assert.deepEqual(repeated, [
      { path: a, times: 4 },
      { path: b, times: 2 },
    ]);
    assert.equal(describeRepeated("all.list", repeated), `all.list lists 2 shards more than once: ${a} 4 times, ${b} 2 times`);
    const many = Array.from({ length: 9 }, (_, i) => ({ path: `s${i}`, times: 2 }));
    assert.equal(describeRepeated("x", many), "x lists 9 shards more than once: s0 2 times, s1 2 times, s2 2 times and 6 more");
    assert.equal(describeRepeated("x", []), null);
  });

  test("relative paths are resolved from the working directory, then from the list's directory", async (t) => {
    const cwd = folderWith(t, "both", "lists/both", "lists/beside");
    writeList(cwd, "lists/all.list", "both\nbeside\n");
    assert.deepEqual(await resolvePaths("lists/all.list", { cwd }), [join(cwd, "both"), join(cwd, "lists/beside")]);
  });

  test("is read back as it was written, whatever the names are", async (t) => {
    const names = ["#a", " b", "c\t", "d\ne", "f\r\ng", "\u00A0h", "\uFEFFi", "\\x41", "\\x", "k\x1B[2J", "\u0085l", "m\\", "n o", "z"];
    const cwd = folderWith(t, ...names, "A");
    writeFileSync(join(cwd, "all.list"), formatFileList(names));
    assert.deepEqual(
      await resolvePaths("all.list", { cwd }),
      names.map((name) => join(cwd, name)),
    );
    assert.equal(formatFileList(["#a", "z"]), "# nextvlad: \\xHH is the byte HH\n\\x23a\nz\n");
    // Names that need no escapes are written without them, so that other tools can read the list.
    assert.equal(formatFileList(["\\x41", "n o", "\u00E9"]), "\\x41\nn o\n\u00E9\n");
    writeFileSync(join(cwd, "all.list"), formatFileList(["\\x41", "A"]));
    assert.deepEqual(
      await resolvePaths("all.list", { cwd }),
      ["\\x41", "A"].map((name) => join(cwd, name)),
    );
  });

  test("with a path that is not UTF-8 is an error, as bytes and with escapes", async (t) => {
    const cwd = folderWith(t, "a");
    for (const content of [Buffer.from("a\nb\xE9.tfrecord\n", "latin1"), "# nextvlad: \\xHH is the byte HH\na\nb\\xE9.tfrecord\n"]) {
      writeFileSync(join(cwd, "all.list"), content);
      const error = await failsWith(resolveShards("all.list", { cwd }), "BAD_FILE_LIST", { file: "all.list" });
      assert.match(
        error.message,
        /the list contains a path that is not UTF-8 \(found .*b.*\.tfrecord.*\)\. Rename the file, or save the list as UTF-8/,
      );
    }
    // A comment may have any encoding, and U+FFFD is valid in a name.
    writeFileSync(join(cwd, "all.list"), Buffer.from("a\n# \xE9\n", "latin1"));
    assert.deepEqual(await resolvePaths("all.list", { cwd }), [join(cwd, "a")]);
    writeFileSync(join(cwd, "\uFFFD"), SHARD);
    writeFileSync(join(cwd, "all.list"), "\uFFFD\n");
    assert.deepEqual(await resolvePaths("all.list", { cwd }), [join(cwd, "\uFFFD")]);
  });

  test("expands ~ at the start of a line to the home directory", async (t) => {
    const cwd = folderWith(t, "home/a");
    const home = process.env.HOME;
    t.after(() => (home === undefined ? delete process.env.HOME : Object.assign(process.env, { HOME: home })));
    process.env.HOME = join(cwd, "home");
    writeList(cwd, "all.list", "~/a\n");
    assert.deepEqual(await resolvePaths("all.list", { cwd }), [join(cwd, "home/a")]);
  });

  test("with a URL is an error with a remedy", async (t) => {
    const cwd = folderWith(t, "a");
    writeList(cwd, "all.list", "a\ngs://bucket/train00.tfrecord\n");
    const { message } = await failsWith(resolveShards("all.list", { cwd }), "BAD_FILE_LIST", { file: "all.list" });
    assert.match(message, /URLs are not supported, .*gs:\/\/bucket\/train00\.tfrecord.*gcsfuse/);
  });

  test("with missing files is one error that names them all", async (t) => {
    const cwd = folderWith(t, "there");
    writeList(cwd, "lists/all.list", "there\ngone1\ngone2\n");
    const error = await failsWith(resolveShards("lists/all.list", { cwd }), "FILE_MISSING", { file: "lists/all.list" });
    assert.match(error.message, /2 of the list's 3 files not found: gone1, gone2 *\. Check the paths/);
    assert.ok(error.message.includes(`resolved from ${cwd}, then from ${join(cwd, "lists")}`));
    writeList(cwd, "long.list", Array.from({ length: 100 }, (_, index) => `gone${index}\n`).join(""));
    assert.match((await failsWith(resolveShards("long.list", { cwd }), "FILE_MISSING")).message, /gone0, gone1, gone2 and 97 more/);
  });

  test("is an error if it is empty, has only comments, or contains a directory", async (t) => {
    const cwd = folderWith(t, "folder/a");
    writeList(cwd, "empty.list", "");
    writeList(cwd, "comments.list", "# nothing\n\n");
    writeList(cwd, "directory.list", "folder\n");
    for (const list of ["empty.list", "comments.list"]) {
      assert.match((await failsWith(resolveShards(list, { cwd }), "BAD_FILE_LIST", { file: list })).message, /contains no shards/);
    }
    assert.match((await failsWith(resolveShards("directory.list", { cwd }), "BAD_FILE_LIST")).message, /contains a directory: .*folder/);
  });

  test("may be combined with globs and shards, in order; the error names everything that is missing", async (t) => {
    const cwd = folderWith(t, "a.tfrecord", "b1", "b2", "c");
    writeList(cwd, "c.list", "c\ngone\n");
    writeList(cwd, "d.list", "lost\n");
    const list = ["b*", "a.tfrecord", "c.list", "d.list", "b2"];
    const { shards, repeated, problem } = await findPaths(list, { cwd });
    assert.deepEqual(
      shards,
      ["b1", "b2", "a.tfrecord", "c", "b2"].map((name) => join(cwd, name)),
    );
    assert.deepEqual(repeated, [{ path: join(cwd, "b2"), times: 2 }]);
    assert.match(
      problem?.message ?? "",
      /^2 lists contain missing files: \(1\) c\.list: 1 of the list's 2 files .*: gone\. .*\(2\) d\.list: .*: lost\./,
    );
    assert.equal(describeFileList(list), "b* and 4 more");
    assert.equal(describeFileList(["x"]), "x");
  });

  test("is an error if it is missing or a directory", async (t) => {
    const cwd = folderWith(t, "folder/a.tfrecord");
    await failsWith(resolveShards("none.list", { cwd }), "FILE_MISSING", { file: "none.list" });
    assert.match(
      (await failsWith(resolveShards("folder/", { cwd }), "BAD_FILE_LIST")).message,
      /a pattern for the shards such as folder\/\*\.tfrecord/,
    );
  });
});

describe("a list from a pipe", () => {
  /** Returns what a FIFO with this content resolves to. */
  async function throughPipe(cwd: string, content: string | Uint8Array) {
    const pipe = join(cwd, "pipe");
    execFileSync("mkfifo", [pipe]);
    const [found] = await Promise.allSettled([findPaths(pipe, { cwd }), writeFile(pipe, content).catch(() => undefined)]);
    rmSync(pipe);
    if (found.status === "rejected") throw found.reason;
    return found.value;
  }

  test("is read to its end, and relative paths are resolved from the working directory", async (t) => {
    const cwd = folderWith(t, "a", "b");
    const { shards } = await throughPipe(cwd, `${"# a long comment\n".repeat(10_000)}b\na\nb\n`);
    assert.deepEqual(
      shards,
      ["b", "a", "b"].map((name) => join(cwd, name)),
    );
  });

  test("is an error if it is empty or a shard", async (t) => {
    const cwd = folderWith(t, "a");
    assert.match((await failsWith(throughPipe(cwd, ""), "BAD_FILE_LIST")).message, /contains no shards/);
    assert.match(
      (await failsWith(throughPipe(cwd, SHARD), "BAD_FILE_LIST")).message,
      /the pipe's content is not a list of shards \(.*found binary data\)/,
    );
  });
});

test("a list may be a single shard, or any file named .tfrecord", async (t) => {
  const cwd = folderWith(t, "shard", "train[1].tfrecord");
  writeList(cwd, "page.tfrecord", "<html>\n");
  for (const name of ["shard", "train[1].tfrecord", "page.tfrecord"])
    assert.deepEqual(await resolvePaths(name, { cwd }), [join(cwd, name)]);
});

describe("a pattern", () => {
  const names = [
    "b/train10.tfrecord",
    "b/train2.tfrecord",
    "a/train1.tfrecord",
    "a/.train3.tfrecord",
    "a/val1.tfrecord",
    "a/deep/train4.tfrecord",
    "train5.tfrecord",
    "a/t+1",
  ];

  async function matches(t: TestContext, pattern: string): Promise<string[]> {
    const cwd = folderWith(t, ...names);
    return (await resolvePaths(pattern, { cwd })).map((path) => path.slice(cwd.length + 1));
  }

  test("* and ? match characters of one name; matches are sorted by name", async (t) => {
    assert.deepEqual(await matches(t, "b/train*.tfrecord"), ["b/train10.tfrecord", "b/train2.tfrecord"]);
    assert.deepEqual(await matches(t, "?/train?.tfrecord"), ["a/train1.tfrecord", "b/train2.tfrecord"]);
    assert.deepEqual(await matches(t, "./*/t[+]1"), ["a/t+1"]);
    assert.deepEqual(await matches(t, "a/.train*"), ["a/.train3.tfrecord"]);
  });

  test("[..] matches a character of a set or outside it, ** matches directories", async (t) => {
    assert.deepEqual(await matches(t, "a/[s-u]*1.tfrecord"), ["a/train1.tfrecord"]);
    assert.deepEqual(await matches(t, "a/[!v]*1.tfrecord"), ["a/train1.tfrecord"]);
    const all = ["a/deep/train4.tfrecord", "a/train1.tfrecord", "b/train10.tfrecord", "b/train2.tfrecord", "train5.tfrecord"];
    assert.deepEqual(await matches(t, "**/train*"), all);
  });

  test("may be absolute, or lead through a link", async (t) => {
    const cwd = folderWith(t, ...names);
    symlinkSync(join(cwd, "b"), join(cwd, "link"));
    assert.deepEqual(await resolvePaths(join(cwd, "b/*10*"), { cwd: "/" }), [join(cwd, "b/train10.tfrecord")]);
    assert.deepEqual(await resolvePaths("li*/*10*", { cwd }), [join(cwd, "link/train10.tfrecord")]);
  });

  test("that matches a file or directory whose name is not UTF-8 is an error", async (t) => {
    const cwd = folderWith(t, "a/1.tfrecord");
    const nameIn = (folder: string, name: string): Buffer => Buffer.concat([Buffer.from(join(cwd, folder, name)), Buffer.of(0xe9)]);
    mkdirSync(nameIn("", "folder"));
    writeFileSync(nameIn("a", "file.txt"), "");
    for (const pattern of ["a/*", "*/1.tfrecord", "**/1.tfrecord"]) {
      const error = await failsWith(resolveShards(pattern, { cwd }), "BAD_FILE_LIST");
      assert.match(error.message, /the pattern matches a name that is not UTF-8\. Rename it/);
    }
    // Patterns that do not match the invalid names are unaffected.
    assert.deepEqual(await resolvePaths("a/*.tfrecord", { cwd }), [join(cwd, "a/1.tfrecord")]);
    assert.deepEqual(await resolvePaths("a*/1*", { cwd }), [join(cwd, "a/1.tfrecord")]);
  });

  test("matches each file once, although several links lead to it, and counts the duplicates", async (t) => {
    const cwd = folderWith(t, "a/1.tfrecord", "b/2.tfrecord", "b/deep/3.tfrecord");
    const link = (target: string, path: string): void => symlinkSync(target, join(cwd, path));
    // Each of these links makes a cycle; together they make 2^n paths of length n.
    for (const [target, path] of [
      [".", "p"],
      [".", "q"],
      ["..", "b/up"],
      ["../b", "a/b"],
      ["../../b", "b/deep/b"],
    ] as const)
      link(target, path);
    link("../b/2.tfrecord", "a/0.tfrecord");
    linkSync(join(cwd, "a/1.tfrecord"), join(cwd, "b/9.tfrecord"));
    link("gone", "a/gone.tfrecord");
    link("self.tfrecord", "a/self.tfrecord");
    const { shards, repeated, problem, warnings } = await findPaths("**/*.tfrecord", { cwd });
    assert.deepEqual(
      shards,
      ["a/1.tfrecord", "a/gone.tfrecord", "a/self.tfrecord", "b/2.tfrecord", "b/deep/3.tfrecord"].map((name) => join(cwd, name)),
    );
    assert.deepEqual([repeated, problem], [[], null]);
    // Five links to folders, one link to a file, and one hard link.
    assert.deepEqual(warnings, [
      "**/*.tfrecord: dropped 7 duplicates reached through links (files and directories); each shard is read once",
    ]);
    // A path without links is preferred, otherwise the first path.
    assert.deepEqual((await findPaths("*/2.tfrecord", { cwd })).shards, [join(cwd, "b/2.tfrecord")]);
    assert.deepEqual((await findPaths("[pq]/b/2.tfrecord", { cwd })).shards, [join(cwd, "p/b/2.tfrecord")]);
    // Duplicates in a file list are kept.
    writeList(cwd, "all.list", "a/0.tfrecord\nb/2.tfrecord\np/b/2.tfrecord\n");
    assert.equal((await findPaths("all.list", { cwd })).shards.length, 3);
    assert.equal((await findPaths(["b/*.tfrecord", "p/b/*.tfrecord"], { cwd })).shards.length, 4);
  });

  test("with many stars is matched in linear time", async (t) => {
    const name = "a".repeat(200);
    const cwd = folderWith(t, name, `${name}b`);
    for (const pattern of ["a*a*a*a*a*a*a*a*b", "*?*?*?*?*?*?*?*?*b", "[a]*[a]*[a]*[a]*[a]*[a]*[a]*b", `${"*a".repeat(100)}*b`]) {
      const startMs = performance.now();
      assert.deepEqual(await resolvePaths(pattern, { cwd }), [join(cwd, `${name}b`)]);
      assert.ok(performance.now() - startMs < 2000, pattern);
    }
  });

  test("warns of directories that cannot be read", { skip: process.getuid?.() === 0 && "root reads every directory" }, async (t) => {
    const cwd = folderWith(t, "a/1.tfrecord", "b/2.tfrecord");
    chmodSync(join(cwd, "b"), 0o300);
    const { shards, warnings } = await findPaths("*/*.tfrecord", { cwd });
    const refused = failsWith(resolveShards("b/*.tfrecord", { cwd }), "BAD_FILE_LIST");
    await refused.finally(() => chmodSync(join(cwd, "b"), 0o700));
    assert.deepEqual(shards, [join(cwd, "a/1.tfrecord")]);
    assert.deepEqual(warnings, [`*/*.tfrecord: a folder cannot be read: ${join(cwd, "b")} (EACCES); shards there are not matched`]);
    assert.match((await refused).message, /no file matches the pattern, and a folder cannot be read: \S+\/b \(EACCES\)/);
  });

  test("matches backslashes and braces literally", async (t) => {
    const cwd = folderWith(t, "a\\1", "a{1,2}", "#1", "!1", "+(a)1");
    for (const [pattern, name] of [
      ["a\\*", "a\\1"],
      ["[\\a]\\?", "a\\1"],
      ["a{1,2}*", "a{1,2}"],
      ["#*", "#1"],
      ["!*", "!1"],
      ["+(a)*", "+(a)1"],
    ] as const)
      assert.deepEqual(await resolvePaths(pattern, { cwd }), [join(cwd, name)], pattern);
  });

  test("is an error if it matches nothing or is invalid", async (t) => {
    const cwd = folderWith(t, "a");
    for (const pattern of ["*.tfrecord", "none/*", "[z-a]*", "[", "a/*"])
      await failsWith(resolveShards(pattern, { cwd }), "BAD_FILE_LIST", { file: pattern });
  });
});
