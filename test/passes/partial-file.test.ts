import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFileSync, existsSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { PartialFile } from "../../src/passes/partial-file.js";
import { fillDisk, temporaryFolder } from "../helpers/files.js";

test("a reopened file is truncated to its mark, and its content is passed on", async (t) => {
  const path = join(temporaryFolder(t), "a");
  const first = await PartialFile.create(path);
  await first.write("é one ");
  await first.write(Uint8Array.of(1, 2, 3));
  const mark = await first.sync();
  await first.write("lost");
  await first.close();
  assert.equal(mark.bytes, 10);
  const pieces: Uint8Array[] = [];
  const second = await PartialFile.reopen(path, mark, (piece) => pieces.push(piece.slice()));
  assert.deepEqual(Buffer.concat(pieces), Buffer.concat([Buffer.from("é one "), Buffer.from([1, 2, 3])]));
  await second.write("two");
  const whole = await second.sync();
  await second.close();
  assert.deepEqual(readFileSync(path), Buffer.concat([...pieces, Buffer.from("two")]));
  await (await PartialFile.reopen(path, whole)).close();
});

test("a file that is shorter than its mark, changed or missing is rejected and stays unchanged", async (t) => {
  const path = join(temporaryFolder(t), "a");
  const file = await PartialFile.create(path);
  await file.write("0123456789");
  const mark = await file.sync();
  await file.close();
  truncateSync(path, 7);
  const short = {
    code: "BAD_RESULTS",
    message: /a: the partial results have changed since they were saved \(expected 10 bytes, found 7\)/,
  };
  await assert.rejects(PartialFile.reopen(path, mark), short);
  appendFileSync(path, "7X9 and more");
  const other = { code: "BAD_RESULTS", message: /\(expected checksum \d+, found \d+\)\. Start from the beginning, without --resume/ };
  await assert.rejects(PartialFile.reopen(path, mark), other);
  assert.equal(readFileSync(path, "utf8"), "01234567X9 and more");
  rmSync(path);
  await assert.rejects(PartialFile.reopen(path, mark), {
    code: "BAD_RESULTS",
    message: /a: a file of the partial results is missing\. Start from the beginning, without --resume/,
  });
  assert.equal(existsSync(path), false);
});

test("a link or a pipe in place of partial results is rejected, and its target is unchanged", async (t) => {
  const folder = temporaryFolder(t);
  const [target, link, pipe] = [join(folder, "target"), join(folder, "link"), join(folder, "pipe")];
  writeFileSync(target, "12345");
  symlinkSync(target, link);
  execFileSync("mkfifo", [pipe]);
  for (const path of [link, pipe]) {
    await assert.rejects(PartialFile.reopen(path, { bytes: 0, crc32c: 0 }), {
      code: "BAD_RESULTS",
      message: /a file of the partial results is not a regular file/,
    });
    await assert.rejects(PartialFile.create(path), { code: "FILE_UNWRITABLE" });
  }
  assert.equal(readFileSync(target, "utf8"), "12345");
});

test("a full device is an error, and the content up to the mark is kept", async (t) => {
  if (!existsSync("/dev/full")) return t.skip("/dev/full is missing");
  const path = join(temporaryFolder(t), "a");
  const file = await PartialFile.create(path);
  fillDisk(path);
  await assert.rejects(file.write("x"), { code: "FILE_UNWRITABLE", message: /no space left on the device/ });
  await file.close();
  await assert.rejects(PartialFile.create(path), { code: "FILE_UNWRITABLE", message: /the file exists/ });
  await assert.rejects(PartialFile.create(join(temporaryFolder(t), "none", "a")), {
    code: "FILE_UNWRITABLE",
    message: /the directory does not exist/,
  });
});
