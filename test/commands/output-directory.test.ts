import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { prepareDirectory } from "../../src/commands/output-directory.js";
import { temporaryFolder } from "../helpers/files.js";

test("creates a directory and its parents; an existing directory is not an error", async (context) => {
  const folder = join(temporaryFolder(context), "a", "b", "c");
  await prepareDirectory(folder);
  await prepareDirectory(folder);
  assert.ok(statSync(folder).isDirectory());
});

test("a file at the path, or at a part of it, is an error", async (context) => {
  const file = join(temporaryFolder(context), "file");
  writeFileSync(file, "");
  await assert.rejects(prepareDirectory(file), {
    code: "FILE_UNWRITABLE",
    message: `${file}: expected a directory, found a regular file. Use another path, or move the file.`,
  });
  await assert.rejects(prepareDirectory(join(file, "below")), { code: "FILE_UNWRITABLE", message: /part of the path is not a directory/ });
});

test("a directory in which none can be created is an error, not an endless loop", {
  skip: !existsSync("/proc/self"),
  timeout: 20_000,
}, async () => {
  await assert.rejects(prepareDirectory("/proc/a/b"), { code: "FILE_UNWRITABLE" });
});

test("paths that store no files are errors", { skip: !existsSync("/proc/self") }, async (context) => {
  const onKernel = {
    code: "FILE_UNWRITABLE",
    message: /: cannot write: this is the kernel's file system (proc|sysfs), which stores no files\. Use a directory on a disk\.$/,
  };
  for (const place of ["/proc/x", "/proc", "/proc/self/x/y", "/sys/x"]) await assert.rejects(prepareDirectory(place), onKernel, place);
  await assert.rejects(prepareDirectory("/dev/null"), {
    message: /^\/dev\/null: expected a directory, found a character device\. Use/,
  });
  const folder = temporaryFolder(context);
  symlinkSync("nowhere", join(folder, "link"));
  await assert.rejects(prepareDirectory(join(folder, "link")), {
    message: /link: cannot write: it is a link to nowhere, which does not exist\./,
  });
  symlinkSync("circle", join(folder, "circle"));
  await assert.rejects(prepareDirectory(join(folder, "circle")), {
    message: /circle: cannot write: its symbolic links form a cycle\./,
  });
  await assert.rejects(prepareDirectory(join(folder, "x".repeat(300))), { message: /cannot write: the name is too long\./ });
});

test("a directory without write permission is an error", { skip: process.getuid?.() === 0 }, async (context) => {
  const folder = join(temporaryFolder(context), "closed");
  mkdirSync(folder);
  chmodSync(folder, 0o500);
  await assert.rejects(prepareDirectory(folder), { code: "FILE_UNWRITABLE", message: /permission denied/ });
});
