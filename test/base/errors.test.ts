import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { ERROR_CODES, fileError, formatError, NextvladError } from "../../src/base/errors.js";
import { repository } from "../helpers/nextvlad.js";

describe("the layout of an error", () => {
  const what = "the checksum does not match";
  const details = { file: "a.tfrecord", record: 3, byteOffset: 12, expected: 1, found: 2, remedy: "download it again" };

  test("has what is wrong with its code, the place, and the help on their own lines; the message is one line", () => {
    const error = new NextvladError("CORRUPT_RECORD", what, details);
    assert.deepEqual(formatError(error), [
      "error[CORRUPT_RECORD]: the checksum does not match (expected 1, found 2)",
      "  --> a.tfrecord, record 3, byte 12",
      "  help: download it again",
    ]);
    assert.equal(error.message, "a.tfrecord, record 3, byte 12: the checksum does not match (expected 1, found 2). Download it again.");
    assert.deepEqual(formatError(new NextvladError("BAD_LABELS", what)), ["error[BAD_LABELS]: the checksum does not match"]);
  });

  test("lists at most 20 problems, and counts the others", () => {
    const problems = Array.from({ length: 22 }, (_, i) => `problem ${i}.`);
    const lines = formatError(new NextvladError("BAD_CONFIG", "the config has 22 problems", { problems, remedy: "fix them" }));
    assert.deepEqual([lines.length, lines[1], lines[20], lines[21]], [23, "  1. problem 0.", "  20. problem 19.", "  and 2 more"]);
    const two = new NextvladError("BAD_CONFIG", "2 problems", { problems: problems.slice(0, 2) });
    assert.equal(two.message, "2 problems: (1) problem 0. (2) problem 1.");
  });

  test("lists the places of a problem that occurs in several", () => {
    const places = "record 1, byte 2; record 3, byte 4";
    const error = new NextvladError("BAD_VIDEO", "no frames, 2 times", { file: "a.tfrecord", places, remedy: "remove them" });
    assert.deepEqual(formatError(error), [
      "error[BAD_VIDEO]: no frames, 2 times",
      "  --> a.tfrecord: record 1, byte 2; record 3, byte 4",
      "  help: remove them",
    ]);
    assert.equal(error.message, "a.tfrecord: no frames, 2 times: record 1, byte 2; record 3, byte 4. Remove them.");
    assert.equal(formatError(new NextvladError("BAD_VIDEO", "no frames", { places }))[1], `  --> ${places}`);
  });

  test("escapes and bounds each line, also those of texts with line breaks", () => {
    const hostile = `a\n\u001b[2J${"x".repeat(10_000)}`;
    const error = new NextvladError("BAD_FORMAT", hostile, { file: hostile, remedy: hostile, problems: [hostile] });
    const lines = formatError(error);
    assert.equal(lines.length, 4);
    for (const line of lines) {
      assert.ok(!line.includes("\n") && !line.includes("\u001b"));
      assert.ok(line.length < 8100, `${line.length}`);
    }
  });

  test("of a stop by a signal is a note", () => {
    assert.deepEqual(formatError(new NextvladError("STOPPED", "stopped by a signal")), ["note: stopped by a signal"]);
  });
});

test("the errors of system calls name the file and the cause", () => {
  const error = (code: string, doing: "read" | "write") => fileError(Object.assign(new Error(code), { code }), "x", doing);
  assert.deepEqual([error("ENOENT", "read").code, error("ENOENT", "read").message], ["FILE_MISSING", "x: file not found. Check the path."]);
  assert.equal(error("EACCES", "read").message, "x: cannot read: permission denied. Check the file and its permissions.");
  assert.equal(error("EDQUOT", "write").message, "x: cannot write: disk quota exceeded. Free disk space, or use another directory.");
  assert.match(error("EMFILE", "read").message, /too many open files\. Raise the limit of open files: ulimit -n 4096\.$/);
  assert.equal(error("EOTHER", "write").message, "x: cannot write: EOTHER. Use another directory, or make this one writable.");
});

describe("docs/errors.md", () => {
  const page = readFileSync(join(repository, "docs/errors.md"), "utf8");
  const sections = new Map(
    Array.from(page.matchAll(/^## (\w+)\n\n([^#]+)/gm), ([, code = "", text = ""]): [string, string] => [code, text]),
  );

  test("explains each code and no other", () => {
    assert.deepEqual([...sections.keys()].sort(), [...ERROR_CODES, "INTERNAL"].sort());
  });

  test("has the exit code of each", () => {
    for (const code of ERROR_CODES) {
      const expected =
        code === "STOPPED" ? /^Exit code 130, 143 or 129/ : new RegExp(`^Exit code ${new NextvladError(code, "x").exitCode}\\.`);
      assert.match(sections.get(code) ?? "", expected, code);
    }
  });

  test("has no code that src never throws", () => {
    const folder = join(repository, "src");
    const text = readdirSync(folder, { recursive: true, encoding: "utf8" })
      .filter((name) => /\.c?ts$/.test(name))
      .map((name) => readFileSync(join(folder, name), "utf8").replaceAll(/(?:ERROR_CODES = |new Set\()\[[^\]]*\]/g, ""))
      .join("\n");
    for (const code of ERROR_CODES) assert.ok(new RegExp(`["[]${code}["\\]]`).test(text), code);
  });
});
