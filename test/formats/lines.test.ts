import assert from "node:assert/strict";
import { isUtf8 } from "node:buffer";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { readLines } from "../../src/formats/lines.js";
import { collect, failsWith } from "../helpers/shards.js";

const folder = mkdtempSync(join(tmpdir(), "lines-"));
after(() => rmSync(folder, { recursive: true, force: true }));
const path = join(folder, "x.txt");

async function read(content: string): Promise<string[]> {
  writeFileSync(path, content);
  return collect(readLines(path), ({ text }) => text);
}

test("only line feeds end lines", async () => {
  assert.deepEqual(await read("a\r\nb\u2028c\rd\n\ne"), ["a\r", "b\u2028c\rd", "", "e"]);
  assert.deepEqual(await read("\uFEFFa\n\uFEFFb\n"), ["a", "\uFEFFb"]);
  assert.deepEqual(await read(""), []);
  assert.deepEqual(await read("\n"), [""]);
});

test("yields whole lines, shorter and longer than a read", async () => {
  const lengths = fc.array(fc.oneof(fc.nat(10), fc.nat(700_000)), { maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(lengths, async (wanted) => {
      const lines = wanted.map((length, i) => `${i}é`.repeat(length).slice(0, length));
      assert.deepEqual(await read(lines.map((line) => `${line}\n`).join("")), lines);
    }),
    { numRuns: 20 },
  );
});

test("any bytes give the lines of their text, or an error at the line that is not UTF-8", async () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc.string({ unit: fc.constantFrom("\n", "\r", "a", "é") }).map((text) => Buffer.from(text)),
  );
  await fc.assert(
    fc.asyncProperty(bytes, async (content) => {
      writeFileSync(path, content);
      const lines = Buffer.from(content).toString("latin1").split("\n");
      const wrong = lines.findIndex((line) => !isUtf8(Buffer.from(line, "latin1")));
      if (wrong >= 0) await failsWith(collect(readLines(path)), "BAD_FORMAT", { line: wrong + 1 });
      else {
        const texts = Buffer.from(content)
          .toString("utf8")
          .replace(/^\uFEFF/, "")
          .split("\n");
        if (texts.at(-1) === "") texts.pop();
        assert.deepEqual(await collect(readLines(path), ({ text }) => text), texts);
      }
    }),
    { numRuns: 300 },
  );
});

test("reports a missing file", async () => {
  await failsWith(collect(readLines(join(folder, "none"))), "FILE_MISSING", { file: join(folder, "none") });
});
