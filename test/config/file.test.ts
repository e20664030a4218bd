import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../src/base/errors.js";
import { readYaml } from "../../src/config/file.js";
import { scratch } from "../commands/nextvlad.js";

const files: readonly [string, string | Uint8Array, RegExp][] = [
  ["a list that does not end", "TRAIN:\n  epoch: [1\n", /not YAML: .* at line \d+, column \d+\.$/],
  ["a key twice", "TRAIN:\n  epoch: 1\n  epoch: 2\n", /not YAML: .*unique at line 3, column 3\.$/],
  ["two documents", "MODEL:\n---\nTRAIN:\n", /not YAML: /],
  [
    "an alias that bursts",
    `a: &a [x]\n${"bcdefghijklm".replace(/./g, (c) => `${c}: &${c} [${Array(9).fill(`*${String.fromCharCode(c.charCodeAt(0) - 1)}`)}]\n`)}`,
    /not YAML: /,
  ],
  ["an alias of nothing", "a: [*b]\n", /not YAML: Unresolved alias/],
  ...["[", "- ", "? ", "{a: ", "- [", "[{a: "].map((unit): [string, string, RegExp] => [
    `${JSON.stringify(unit)} over and over`,
    unit.repeat(16_000 / unit.length),
    /not YAML: nested more than 64 levels deep/,
  ]),
  ["PaddleVideo 1.5's INI form", '[MODEL]\nname = "NEXTVLAD"\n', /INI form of PaddleVideo 1.5. Write its sections as YAML/],
  ["a shard", new Uint8Array(1 << 21), /too large for a config file \(expected at most 16384 bytes, found 2097152\)/],
];
for (const [name, content, message] of files) {
  test(`${name} is refused in a line`, async (context) => {
    const file = join(scratch(context), "own.yaml");
    writeFileSync(file, content);
    await assert.rejects(readYaml(file), (error: unknown) => {
      assert.ok(error instanceof NextvladError);
      assert.equal(error.code, "BAD_CONFIG");
      assert.ok(error.message.startsWith(`${file}: `));
      assert.doesNotMatch(error.message, /\n/);
      assert.match(error.message, message);
      return true;
    });
  });
}

test("64 levels are read, and 65 are not", async (context) => {
  const file = join(scratch(context), "own.yaml");
  const nested = (levels: number): string => `${"[".repeat(levels)}${"]".repeat(levels)}`;
  writeFileSync(file, nested(64));
  assert.equal(JSON.stringify(await readYaml(file)), nested(64));
  writeFileSync(file, nested(65));
  await assert.rejects(readYaml(file), { code: "BAD_CONFIG" });
});

test("a file that is not there, and a folder, are told apart", async (context) => {
  const folder = scratch(context);
  await assert.rejects(readYaml(join(folder, "none.yaml")), { code: "FILE_MISSING" });
  await assert.rejects(readYaml(folder), { code: "FILE_UNREADABLE" });
});

test("whatever the bytes, a value comes back or one of our errors", async (context) => {
  const file = join(scratch(context), "own.yaml");
  const piece = fc.constantFrom(
    "MODEL",
    "TRAIN",
    ": ",
    "\n",
    "  ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "!!int ",
    "'",
    '"',
    "1e-5",
    "#",
    "%",
    "? ",
    "|",
    "\t",
    "\0",
  );
  const text = fc.oneof(
    fc.uint8Array({ maxLength: 60 }),
    fc.array(piece, { maxLength: 25 }).map((pieces) => Buffer.from(pieces.join(""))),
  );
  await fc.assert(
    fc.asyncProperty(text, async (bytes) => {
      writeFileSync(file, bytes);
      await readYaml(file).catch((error: unknown) => assert.ok(error instanceof NextvladError, String(error)));
    }),
    { numRuns: 300 },
  );
});
