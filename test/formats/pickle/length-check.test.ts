import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createGzip, gzipSync } from "node:zlib";
import { openPaddlePickles } from "../../../src/checkpoints/paddle-pickle.js";
import { PickleLengthCheck } from "../../../src/formats/pickle/length-check.js";
import { parsePickle } from "../../../src/formats/pickle/unpickler.js";
import { temporaryFolder } from "../../helpers/files.js";
import { needsPython, runPython } from "../../helpers/python.js";
import { failsWith } from "../../helpers/shards.js";

/** Checks a pickle in pieces of one size. */
function check(pickle: Uint8Array, maxBytes: number, pieceBytes: number): void {
  const guard = new PickleLengthCheck("x.pkl", maxBytes);
  for (let at = 0; at < pickle.length; at += pieceBytes) guard.check(pickle.subarray(at, at + pieceBytes));
}

const VALUES = `
import base64, json, pickle, collections
values = [{"key%d" % i: [i, -i, i << 40, 1 << 500, i / 7, None, True, (i,), collections.OrderedDict(a=b"ab" * i)] for i in range(300)}, "N" * 999, b"X" * 1000, "(" * 400]
print(json.dumps([base64.b64encode(pickle.dumps(values, protocol)).decode() for protocol in range(6)]))
`;

test("accepts strings up to the limit and rejects longer ones, in every protocol", needsPython, async () => {
  const pickles = (runPython(VALUES) as string[]).map((text) => new Uint8Array(Buffer.from(text, "base64")));
  for (const [protocol, pickle] of pickles.entries()) {
    for (const pieceBytes of [1, 7, 1 << 20]) {
      // Protocols 0 to 2 store bytes as text, protocol 0 on a line of its own; the line of V contains "N" * 999 unchanged.
      assert.doesNotThrow(() => check(pickle, protocol < 3 ? 1001 : 1000, pieceBytes), `protocol ${protocol}`);
      await failsWith((async () => check(pickle, 998, pieceBytes))(), "BAD_FORMAT", { file: "x.pkl" });
    }
    // The parser has the same limit.
    await failsWith((async () => parsePickle(pickle, "x.pkl", 998))(), "BAD_FORMAT", { file: "x.pkl" });
    parsePickle(pickle, "x.pkl", 1001);
  }
});

/** A pickled dict that begins a string of 2 GiB - 1. */
const DECLARED = Buffer.concat([Buffer.from("\x80\x02}X\x01\0\0\0aT\xff\xff\xff\x7f", "latin1"), Buffer.alloc(1 << 16)]);

for (const [name, content] of [
  ["plain", DECLARED],
  ["gzipped", gzipSync(DECLARED)],
] as const) {
  test(`rejects weights with a string of 2 GiB by its declared length, ${name}`, async (t) => {
    const path = join(temporaryFolder(t), "x.pdparams");
    writeFileSync(path, content);
    const error = await failsWith(openPaddlePickles(path, [path]), "BAD_FORMAT", { file: path, byteOffset: 9 });
    assert.match(error.message, /text or bytes in the pickle are too long \(expected at most 805306368 bytes, found 2147483647\)/);
  });
}

test("rejects gzip that expands a thousand times before unpacking it", async (t) => {
  const path = join(temporaryFolder(t), "x.pdparams");
  const gzip = createGzip({ level: 1 });
  const packed = gzip.toArray();
  gzip.write(Buffer.from("\x80\x02", "latin1"));
  // Only MARK opcodes, so that no string is too long.
  for (let i = 0; i < 80; i++) gzip.write(Buffer.alloc(1 << 20, "("));
  gzip.end();
  writeFileSync(path, Buffer.concat((await packed) as Buffer[]));
  const error = await failsWith(openPaddlePickles(path, [path]), "BAD_FORMAT", { file: path });
  assert.match(error.message, /the gzip data expands too much/);
});
