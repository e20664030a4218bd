import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../src/base/errors.js";
import { csvField, readCsv } from "../../src/formats/csv.js";
import { collect, failsWith } from "../helpers/shards.js";

const folder = mkdtempSync(join(tmpdir(), "csv-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const path = join(folder, "x.csv");

async function read(content: string | Uint8Array): Promise<(readonly string[])[]> {
  writeFileSync(path, content);
  return collect(readCsv(path), ({ fields }) => fields);
}

/** Text with all that matters to CSV in it. Half surrogates have no UTF-8 form. */
const text = fc.string({
  unit: fc.oneof(
    { weight: 1, arbitrary: fc.constantFrom('"', ",", "\n", "\r", " ", "\uFEFF", "é") },
    fc.string({ unit: "grapheme", minLength: 1, maxLength: 1 }),
  ),
});
/** A record of one empty field is a blank line. */
const records = fc.array(fc.array(text, { minLength: 1, maxLength: 4 }).filter((fields) => fields.length > 1 || fields[0] !== ""));

test("what is written is read", async () => {
  await fc.assert(
    fc.asyncProperty(records, fc.constantFrom("\n", "\r\n"), async (expected, end) => {
      const content = expected.map((fields) => fields.map(csvField).join(",") + end).join("");
      assert.deepEqual(await read(`\uFEFF${content}`), expected);
    }),
    { numRuns: 300 },
  );
});

test("what Python's csv writes is read", async () => {
  const samples = fc.sample(records, { numRuns: 20, seed: 1 });
  const script = `
import csv, io, json, sys
for records in json.load(sys.stdin):
    out = io.StringIO(newline="")
    csv.writer(out).writerows(records)
    print(json.dumps(out.getvalue()))`;
  const run = spawnSync("python3", ["-c", script], { input: JSON.stringify(samples), encoding: "utf8" });
  assert.equal(run.status, 0, run.stderr);
  for (const [i, line] of run.stdout.trimEnd().split("\n").entries()) assert.deepEqual(await read(`\uFEFF${JSON.parse(line)}`), samples[i]);
});

test("lines say where records start; quotes inside a field stand for themselves; blank lines are none", async () => {
  writeFileSync(path, 'a,b"c\n\n"x\n\ny",""""\r\n\r\nlast,');
  assert.deepEqual(await collect(readCsv(path), ({ fields, line }) => ({ fields: [...fields], line })), [
    { fields: ["a", 'b"c'], line: 1 },
    { fields: ["x\n\ny", '"'], line: 3 },
    { fields: ["last", ""], line: 7 },
  ]);
});

test("what is no CSV is told with its line", async () => {
  await failsWith(read('a,b\n"c" d,e\n'), "BAD_FORMAT", { file: path, line: 2, found: '" d,e"' });
  await failsWith(read('a,b\n"c\nd\n'), "BAD_FORMAT", { file: path, line: 2 });
  await failsWith(read(Buffer.from("a,b\nc,\xff\n", "latin1")), "BAD_FORMAT", { file: path, line: 2 });
  await failsWith(collect(readCsv(join(folder, "none"))), "FILE_MISSING");
});

test("any bytes are records or an error", async () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.string({ unit: fc.constantFrom('"', ",", "\n", "\r", "a") }).map((content) => Buffer.from(content)),
  );
  await fc.assert(
    fc.asyncProperty(bytes, async (content) => {
      try {
        await read(content);
      } catch (error) {
        assert.ok(error instanceof NextvladError && error.code === "BAD_FORMAT");
      }
    }),
    { numRuns: 300 },
  );
});

test("a line, or a quoted field, that never ends is refused before it fills the memory", async () => {
  await failsWith(read(Buffer.alloc((1 << 24) + (1 << 19), "a")), "BAD_FORMAT", { line: 1 });
  await failsWith(read(`"${"a\n".repeat(3 << 22)}`), "BAD_FORMAT", { line: 1 });
});
