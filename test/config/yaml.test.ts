import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../src/base/errors.js";
import { readYaml } from "../../src/config/yaml.js";
import { temporaryFolder } from "../helpers/files.js";

const files: readonly [string, string | Uint8Array, RegExp][] = [
  ["an unterminated list", "TRAIN:\n  epoch: [1\n", /invalid YAML: .* at line \d+, column \d+\.$/],
  ["a duplicate key", "TRAIN:\n  epoch: 1\n  epoch: 2\n", /invalid YAML: .*unique at line 3, column 3\.$/],
  [
    "two documents",
    "MODEL:\n---\nTRAIN:\n",
    /own\.yaml, line 2: more than one YAML document\. Remove the lines `---` and `\.\.\.` inside the file, or split the file/,
  ],
  ["a document after an end mark", "MODEL:\n...\nTRAIN:\n", /own\.yaml, line 3: more than one YAML document/],
  [
    "an ordered mapping",
    "TRAIN:\n  epoch: 1\nMODEL: !!omap\n  - topk: 5\n",
    /own\.yaml, line 3, MODEL: unsupported tag !!omap .*Remove the tag/,
  ],
  ["a set of sections", "!!set {MODEL, TRAIN}\n", /own\.yaml, line 1: unsupported tag !!set/],
  ["a set", "MODEL: !<tag:yaml.org,2002:set> {topk}\n", /MODEL: unsupported tag !!set/],
  ["pairs", "MODEL: {}\nTRAIN: !!pairs [epoch: 1]\n", /line 2, TRAIN: unsupported tag !!pairs/],
  ["bytes", "TRAIN:\n  filelist: !!binary YWI=\n", /line 2, TRAIN\.filelist: unsupported tag !!binary/],
  ["a time", "TRAIN: {seed: !!timestamp 2001-01-01}\n", /TRAIN\.seed: unsupported tag !!timestamp/],
  [
    "an alias bomb",
    `a: &a [x]\n${"bcdefghijklm".replace(/./g, (c) => `${c}: &${c} [${Array(9).fill(`*${String.fromCharCode(c.charCodeAt(0) - 1)}`)}]\n`)}`,
    /invalid YAML: /,
  ],
  ["an unresolved alias", "a: [*b]\n", /invalid YAML: Unresolved alias/],
  ...["[", "- ", "? ", "{a: ", "- [", "[{a: "].map((unit): [string, string, RegExp] => [
    `${JSON.stringify(unit)} repeated`,
    unit.repeat(16_000 / unit.length),
    /invalid YAML: nested more than 64 levels deep/,
  ]),
  [
    "PaddleVideo 1.5's INI format",
    '[MODEL]\nname = "NEXTVLAD"\n',
    /the INI format of PaddleVideo 1\.5 is not supported\. Write its sections as YAML/,
  ],
  ["a shard", new Uint8Array(1 << 21), /too large for a config file \(expected at most 16384 bytes, found more\)/],
];
for (const [name, content, message] of files) {
  test(`${name}: the error is one line with the file`, async (context) => {
    const file = join(temporaryFolder(context), "own.yaml");
    writeFileSync(file, content);
    await assert.rejects(readYaml(file), (error: unknown) => {
      assert.ok(error instanceof NextvladError);
      assert.equal(error.code, "BAD_CONFIG");
      assert.match(error.message.slice(file.length), /^[:,] /);
      assert.ok(error.message.startsWith(file));
      assert.doesNotMatch(error.message, /\n/);
      assert.match(error.message, message);
      return true;
    });
  });
}

test("64 levels are valid, 65 are not", async (context) => {
  const file = join(temporaryFolder(context), "own.yaml");
  const nested = (levels: number): string => `${"[".repeat(levels)}${"]".repeat(levels)}`;
  writeFileSync(file, nested(64));
  assert.equal(JSON.stringify(await readYaml(file)), nested(64));
  writeFileSync(file, nested(65));
  await assert.rejects(readYaml(file), { code: "BAD_CONFIG" });
});

test("a missing file is FILE_MISSING, a directory is FILE_UNREADABLE", async (context) => {
  const folder = temporaryFolder(context);
  await assert.rejects(readYaml(join(folder, "none.yaml")), { code: "FILE_MISSING" });
  await assert.rejects(readYaml(folder), { code: "FILE_UNREADABLE" });
});

test("any bytes give a value or a NextvladError", async (context) => {
  const file = join(temporaryFolder(context), "own.yaml");
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
