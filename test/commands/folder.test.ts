import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { prepareFolder } from "../../src/commands/folder.js";
import { temporaryFolder } from "../helpers/files.js";

test("a folder is made with all above it; one that is there will do", async (context) => {
  const folder = join(temporaryFolder(context), "a", "b", "c");
  await prepareFolder(folder);
  await prepareFolder(folder);
  assert.ok(statSync(folder).isDirectory());
});

test("a file in its place, or on the way to it, is told", async (context) => {
  const file = join(temporaryFolder(context), "file");
  writeFileSync(file, "");
  await assert.rejects(prepareFolder(file), {
    code: "FILE_UNWRITABLE",
    message: `${file}: this should be a folder, and is a file. Choose another place, or move the file away.`,
  });
  await assert.rejects(prepareFolder(join(file, "below")), { code: "FILE_UNWRITABLE", message: /part of the path is not a directory/ });
});

test("a folder that takes no new ones is an error, and no endless loop", { skip: !existsSync("/proc/self"), timeout: 20_000 }, async () => {
  await assert.rejects(prepareFolder("/proc/a/b"), { code: "FILE_UNWRITABLE" });
});

test("a place that stores no files is an error that says so", { skip: !existsSync("/proc/self") }, async (context) => {
  const onKernel = {
    code: "FILE_UNWRITABLE",
    message: /: cannot write: this is the kernel's file system (proc|sysfs), which stores no files\. Choose a folder on a disk\.$/,
  };
  for (const place of ["/proc/x", "/proc", "/proc/self/x/y", "/sys/x"]) await assert.rejects(prepareFolder(place), onKernel, place);
  await assert.rejects(prepareFolder("/dev/null"), {
    message: /^\/dev\/null: this should be a folder, and is a device, pipe or socket\. Choose/,
  });
  const folder = temporaryFolder(context);
  symlinkSync("nowhere", join(folder, "link"));
  await assert.rejects(prepareFolder(join(folder, "link")), {
    message: /link: cannot write: it is a link to nowhere, which does not exist\./,
  });
  symlinkSync("circle", join(folder, "circle"));
  await assert.rejects(prepareFolder(join(folder, "circle")), {
    message: /circle: cannot write: its symbolic links form a cycle\./,
  });
  await assert.rejects(prepareFolder(join(folder, "x".repeat(300))), { message: /cannot write: the name is too long\./ });
});

test("a folder without leave to write is an error", { skip: process.getuid?.() === 0 }, async (context) => {
  const folder = join(temporaryFolder(context), "closed");
  mkdirSync(folder);
  chmodSync(folder, 0o500);
  await assert.rejects(prepareFolder(folder), { code: "FILE_UNWRITABLE", message: /permission denied/ });
});
