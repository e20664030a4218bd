import assert from "node:assert/strict";
import { isUtf8 } from "node:buffer";
import { test } from "node:test";
import fc from "fast-check";
import { encodeBytes } from "../../../src/base/byte-text.js";
import { decodeText } from "../../../src/formats/protobuf/reader.js";

test("decodes short and long text without loss, ASCII or not", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ max: 0x7f, maxLength: 20 }),
    fc.uint8Array({ maxLength: 40 }),
    fc.string({ unit: "binary" }).map((text) => new TextEncoder().encode(text)),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 3 }), bytes, fc.uint8Array({ maxLength: 3 }), (before, text, after) => {
      const around = Uint8Array.from([...before, ...text, ...after]);
      assert.equal(decodeText(around, before.length, before.length + text.length), decodeText(text));
      assert.deepEqual(Buffer.from(encodeBytes(decodeText(text))), Buffer.from(text));
      if (isUtf8(text)) assert.equal(decodeText(text), Buffer.from(text).toString("utf8"));
    }),
    { numRuns: 500 },
  );
});
