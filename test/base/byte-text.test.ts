import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import fc from "fast-check";
import { decodeBytes, encodeBytes, escapeBytes, normaliseBytes, unescapeBytes } from "../../src/base/byte-text.js";

const anyBytes = fc.oneof(
  fc.uint8Array({ maxLength: 20 }),
  // Fragments of UTF-8, surrogates encoded as in UTF-8, and overlong forms.
  fc
    .array(fc.constantFrom("61", "c3a9", "e8a696", "f09f8eac", "eda080", "edb3bf", "c0af", "f4908080", "80", "ff", "5c78", "4646"))
    .map((hex) => Uint8Array.from(Buffer.from(hex.join(""), "hex"))),
);

test("bytes are decoded like Python's surrogateescape, and encoded back", () => {
  const inputs = fc.sample(anyBytes, { numRuns: 1000, seed: 1 }).map((bytes) => Buffer.from(bytes).toString("hex"));
  const script = `import json, sys
print(json.dumps([bytes.fromhex(line).decode("utf-8", "surrogateescape") for line in json.load(sys.stdin)]))`;
  const { stdout, stderr } = spawnSync("python3", ["-c", script], { input: JSON.stringify(inputs), encoding: "utf8" });
  assert.equal(stderr, "");
  const expected = JSON.parse(stdout) as string[];
  for (const [i, hex] of inputs.entries()) {
    const text = decodeBytes(Buffer.from(hex, "hex"));
    assert.equal(text, expected[i], hex);
    assert.equal(Buffer.from(encodeBytes(text)).toString("hex"), hex);
    assert.equal(normaliseBytes(text), text);
  }
});

test("escapes keep distinct IDs distinct, are well-formed text, and are reversible", () => {
  fc.assert(
    fc.property(anyBytes, (bytes) => {
      const text = decodeBytes(bytes);
      const escaped = escapeBytes(text);
      assert.ok(!/\p{Surrogate}/u.test(escaped));
      assert.equal(unescapeBytes(escaped), text);
    }),
    { numRuns: 1000 },
  );
  assert.equal(escapeBytes(decodeBytes(Uint8Array.of(0x61, 0xff))), String.raw`a\xFF`);
  // Plain IDs, and backslashes that do not start an escape, are unchanged.
  for (const id of ["AbCd", "naïve 🎬", String.raw`C:\x\dir`, "\\"]) assert.equal(escapeBytes(id), id);
  assert.equal(escapeBytes(String.raw`\xff`), String.raw`\x5Cxff`);
  // Escapes written by hand may form valid UTF-8.
  assert.equal(unescapeBytes(String.raw`\xC3\xA9`), "é");
});

test("text with other lone surrogates has bytes, and one normal form", () => {
  assert.equal(Buffer.from(encodeBytes("a\ud800")).toString("hex"), "61eda080");
  assert.equal(normaliseBytes("a\ud800"), decodeBytes(Buffer.from("61eda080", "hex")));
  assert.equal(normaliseBytes("\udcc3\udca9"), "é");
});
