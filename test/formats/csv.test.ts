import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout } from "node:timers/promises";
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

/** Text with all characters that are special in CSV. Lone surrogates are excluded, because they have no UTF-8 form. */
const text = fc.string({
  unit: fc.oneof(
    { weight: 1, arbitrary: fc.constantFrom('"', ",", "\n", "\r", " ", "\uFEFF", "é") },
    fc.string({ unit: "grapheme", minLength: 1, maxLength: 1 }),
  ),
});
/** Excludes records of one empty field, which are blank lines. */
const records = fc.array(fc.array(text, { minLength: 1, maxLength: 4 }).filter((fields) => fields.length > 1 || fields[0] !== ""));

test("reads back what csvField writes", async () => {
  await fc.assert(
    fc.asyncProperty(records, fc.constantFrom("\n", "\r\n"), async (expected, end) => {
      const content = expected.map((fields) => fields.map(csvField).join(",") + end).join("");
      assert.deepEqual(await read(`\uFEFF${content}`), expected);
    }),
    { numRuns: 300 },
  );
});

test("reads what Python's csv module writes", async () => {
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

test("reports the line on which each record ends, and skips blank lines", async () => {
  writeFileSync(path, 'a,bc\n\n"x\n\ny",""""\r\n\r\nlast,');
  assert.deepEqual(await collect(readCsv(path), ({ fields, line }) => ({ fields: [...fields], line })), [
    { fields: ["a", "bc"], line: 1 },
    { fields: ["x\n\ny", '"'], line: 5 },
    { fields: ["last", ""], line: 7 },
  ]);
});

test("rejects invalid CSV and names the line", async () => {
  for (const [content, message] of [
    ['a,b\n"c" d,e\n', /x\.csv: not a CSV file: .* at line 2/],
    ['a,b\nc"d,e\n', /x\.csv: not a CSV file: .* at line 2/],
    ['a,b\n"c\nd\n', /x\.csv: not a CSV file: Quote Not Closed: .* line 3/],
    [Buffer.from("a,b\nc,\xff\n", "latin1"), /x\.csv: not UTF-8 text/],
    [Buffer.from("a,b\nc,\xc3", "latin1"), /x\.csv: not UTF-8 text/],
  ] as const) {
    assert.match((await failsWith(read(content), "BAD_FORMAT", { file: path })).message, message);
  }
  await failsWith(collect(readCsv(join(folder, "none"))), "FILE_MISSING");
  await failsWith(collect(readCsv(folder)), "FILE_UNREADABLE");
});

test("closes the file when the consumer stops early", async () => {
  writeFileSync(path, "a,b\n".repeat(1 << 20));
  const open = () => readdirSync("/proc/self/fd").length;
  const before = open();
  for await (const { line } of readCsv(path)) if (line === 3) break;
  for (let turn = 0; turn < 100 && open() > before; turn++) await setTimeout(10);
  assert.equal(open(), before);
});

test("any bytes give records or BAD_FORMAT", async () => {
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

test("rejects an unclosed quote before it fills the memory", async () => {
  await failsWith(read(`"${"a\n".repeat(9 << 20)}`), "BAD_FORMAT", { file: path });
});
