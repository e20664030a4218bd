import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../../src/base/errors.js";
import { allocateUnpooled, countFrames, parseFramesOneByOne } from "../../../src/formats/protobuf/feature-list.js";
import { ProtobufReader } from "../../../src/formats/protobuf/reader.js";
import { encodeSequenceExample, parseSequenceExample } from "../../../src/formats/protobuf/sequence-example.js";

const PLACE = { file: "shard", record: 0, byteOffset: 0 };

function record(frames: number, frameBytes: number): Uint8Array {
  const data = new Uint8Array(frames * frameBytes).fill(10);
  return encodeSequenceExample({ context: { id: Buffer.from("v") }, frameLists: [{ name: "rgb", frameBytes, data }] });
}

/** Returns the result of parsing with at most `maxFrames` frames: the number of frames and their size, or the error's message. */
function outcome(bytes: Uint8Array, maxFrames: number): unknown {
  try {
    const list = parseSequenceExample(bytes, PLACE, { listNames: ["rgb"], maxFrames }).frameLists.get("rgb");
    return list === undefined ? "none" : [list.frames, list.frameBytes];
  } catch (error) {
    if (error instanceof NextvladError) return error.message;
    throw error;
  }
}

test("counting agrees with parsing, for valid records and for any changed bytes", () => {
  const change = fc.record({ at: fc.nat(400), to: fc.nat(255) });
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 12 }), fc.nat(40), fc.array(change, { maxLength: 3 }), (frames, frameBytes, changes) => {
      const bytes = record(frames, frameBytes);
      for (const { at, to } of changes) bytes[at % bytes.length] = to;
      assert.deepEqual(outcome(bytes, 0), outcome(bytes, 1000));
    }),
    { numRuns: 3000 },
  );
});

test("counts lists like YouTube-8M's, and falls back to parsing if one frame differs", () => {
  const list = (sizes: readonly number[]): Uint8Array =>
    Buffer.concat(
      sizes.map((size) => {
        const value = [10, ...(size < 128 ? [size] : [(size & 127) | 128, size >> 7])];
        const inner = [10, value.length + size < 128 ? value.length + size : -1].flatMap((byte) =>
          byte === -1 ? [((value.length + size) & 127) | 128, (value.length + size) >> 7] : [byte],
        );
        const total = inner.length + value.length + size;
        const head = [10, ...(total < 128 ? [total] : [(total & 127) | 128, total >> 7]), ...inner, ...value];
        return Buffer.concat([Buffer.from(head), Buffer.alloc(size)]);
      }),
    );
  for (const [sizes, expected] of [
    [[1024, 1024, 1024], { frames: 3, frameBytes: 1024 }],
    [[128], { frames: 1, frameBytes: 128 }],
    [[0, 0], { frames: 2, frameBytes: 0 }],
    [[5, 5, 6], null],
    [[], null],
  ] as const) {
    const bytes = list(sizes);
    assert.deepEqual(countFrames(new ProtobufReader(bytes, PLACE), bytes.length), expected);
    if (expected === null) continue;
    const parsed = parseFramesOneByOne(new ProtobufReader(bytes, PLACE), bytes.length, {
      name: "rgb",
      maxFrames: 300,
      place: PLACE,
      allocate: allocateUnpooled,
    });
    assert.deepEqual({ frames: parsed.frames, frameBytes: parsed.frameBytes }, expected);
  }
});
