import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../../src/base/errors.js";
import { readTfRecordFile } from "../../../src/formats/containers/tfrecord.js";
import { encodeSequenceExample, parseSequenceExample, type SequenceExample } from "../../../src/formats/protobuf/sequence-example.js";
import { collect, failsWith, goldenData, goldenVideos } from "../../helpers/shards.js";

const PLACE = { file: "x.tfrecord", record: 7, byteOffset: 1000 };
const NAMES = ["rgb", "audio"];

function parse(bytes: Uint8Array, maxFrames = 300): SequenceExample {
  return parseSequenceExample(bytes, PLACE, { listNames: NAMES, maxFrames });
}

const parseLater = async (bytes: Uint8Array) => parse(bytes);

/** Encodes a length-delimited field; its length must be below 128 and its number below 16. */
function field(number: number, ...content: readonly (Uint8Array | readonly number[])[]): Uint8Array {
  const body = Buffer.concat(content.map((part) => Uint8Array.from(part)));
  assert.ok(body.length < 128);
  return new Uint8Array([number * 8 + 2, body.length, ...body]);
}

const text = (value: string) => Buffer.from(value, "utf8");
const entry = (key: string, value: Uint8Array) => field(1, field(1, text(key)), field(2, value));
const bytesFeature = (...values: readonly (readonly number[])[]) => field(1, ...values.map((value) => field(1, value)));
const context = (...entries: Uint8Array[]) => field(1, ...entries);
const lists = (...entries: Uint8Array[]) => field(2, ...entries);
const frames = (...features: Uint8Array[]) => new Uint8Array(Buffer.concat(features.map((feature) => field(1, feature))));

const SAMPLE = encodeSequenceExample({
  context: { id: text("abcd"), labels: [3, 1000] },
  frameLists: [
    { name: "rgb", frameBytes: 3, data: Uint8Array.of(1, 2, 3, 4, 5, 6) },
    { name: "audio", frameBytes: 2, data: Uint8Array.of(7, 8, 9, 10) },
  ],
});

describe("round trip", () => {
  test("re-encodes TensorFlow's records byte for byte", async () => {
    const records = await collect(readTfRecordFile(goldenData("train0000.tfrecord")), ({ data }) => data.slice());
    for (const [index, video] of goldenVideos().entries()) {
      const record = records[index] as Uint8Array;
      const { context: read, listNames } = parse(record);
      const labels = read.get("labels");
      const values = {
        id: text(video.id),
        labels: labels?.kind === "int64" ? labels.values : assert.fail("labels are int64"),
      };
      const content = {
        context: Object.fromEntries([...read.keys()].map((key) => [key, values[key as "id" | "labels"]])),
        frameLists: listNames.map((name) => ({
          name,
          frameBytes: name === "rgb" ? 1024 : 128,
          data: name === "rgb" ? video.rgb : video.audio,
        })),
      };
      assert.deepEqual(encodeSequenceExample(content), record);
    }
  });

  test("context and frames of any size, cut to maxFrames", () => {
    const int64 = fc.integer({ min: Number.MIN_SAFE_INTEGER, max: Number.MAX_SAFE_INTEGER });
    const list = fc
      .record({ frameBytes: fc.integer({ min: 1, max: 200 }), count: fc.nat(9), seed: fc.nat(255) })
      .map(({ frameBytes, count, seed }) => ({
        frameBytes,
        data: new Uint8Array(frameBytes * count).map((_, index) => index * 31 + seed),
      }));
    fc.assert(
      fc.property(fc.uint8Array(), fc.array(int64), list, list, fc.integer({ min: 1, max: 12 }), (id, labels, rgb, audio, maxFrames) => {
        const frameLists = [
          { name: "audio", ...audio },
          { name: "rgb", ...rgb },
        ];
        const read = parse(encodeSequenceExample({ context: { id, labels }, frameLists }), maxFrames);
        assert.deepEqual(read.context.get("id"), { kind: "bytes", values: [id] });
        assert.deepEqual(
          read.context.get("labels"),
          labels.length === 0 ? { kind: "int64", values: [] } : { kind: "int64", values: labels },
        );
        for (const { name, frameBytes, data } of frameLists) {
          const count = data.length / frameBytes;
          assert.deepEqual(read.frameLists.get(name), {
            frames: count,
            frameBytes: count === 0 ? 0 : frameBytes,
            data: data.subarray(0, maxFrames * frameBytes),
          });
        }
      }),
    );
  });
});

describe("variants of other writers", () => {
  test("int64 lists that are not packed, or packed in parts; negative values take ten bytes", () => {
    const minusTwo = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    const list = field(3, [8, 5], field(1, [1, 0xac, 0x02]), [8, ...minusTwo]);
    assert.deepEqual(parse(context(entry("labels", list))).context.get("labels"), { kind: "int64", values: [5, 1, 300, -2] });
  });

  test("fields in any order, unknown fields of every wire type, a context in parts, the last value of a duplicate key", () => {
    const unknown = new Uint8Array([0x78, 0x96, 0x01, 0x79, 1, 2, 3, 4, 5, 6, 7, 8, 0x7a, 2, 0xff, 0xff, 0x7d, 1, 2, 3, 4]);
    const valueFirst = field(1, unknown, field(2, bytesFeature([1])), field(1, text("id")));
    const example = new Uint8Array([
      ...lists(
        unknown,
        entry("rgb", new Uint8Array([...unknown, ...frames(bytesFeature([1, 2])), ...unknown, ...frames(bytesFeature([3, 4]))])),
      ),
      ...unknown,
      ...context(valueFirst),
      ...context(unknown, entry("other", new Uint8Array(0)), entry("id", bytesFeature([2]))),
    ]);
    const read = parse(example);
    assert.deepEqual(
      [...read.context],
      [
        ["id", { kind: "bytes", values: [Uint8Array.of(2)] }],
        ["other", { kind: "none" }],
      ],
    );
    assert.deepEqual([...read.frameLists], [["rgb", { frames: 2, frameBytes: 2, data: Uint8Array.of(1, 2, 3, 4) }]]);
  });

  test("lists the names of feature lists that were not requested, without parsing them", () => {
    const read = parse(lists(entry("boxes", Uint8Array.of(0x0a, 0x7f)), entry("audio", frames(bytesFeature([1])))));
    assert.deepEqual(read.listNames, ["boxes", "audio"]);
    assert.deepEqual([...read.frameLists.keys()], ["audio"]);
  });
});

describe("invalid SequenceExamples", () => {
  test("reports the byte of each kind of corruption", async () => {
    const cases: readonly (readonly [Uint8Array, number, RegExp])[] = [
      [Uint8Array.of(0x0a, 5, 1, 2), 1, /a field of 5 bytes exceeds its message/],
      [Uint8Array.of(0x0a), 1, /truncated varint/],
      [Uint8Array.of(0x78, 0x80, 0x80), 1, /truncated varint/],
      [Uint8Array.of(0x78, ...Array(10).fill(0x80), 1), 1, /more than ten bytes/],
      [Uint8Array.of(0x7d, 1, 2, 3), 1, /a field exceeds its message/],
      [Uint8Array.of(0x7b), 1, /unknown wire type 3/],
      [Uint8Array.of(0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f), 6, /too large/],
    ];
    for (const [bytes, position, words] of cases) {
      const error = await failsWith(parseLater(bytes), "BAD_FORMAT", { file: "x.tfrecord", record: 7, byteOffset: 1000 + position });
      assert.match(error.message, words);
    }
  });

  test("rejects frames that are not one bytes value each, and frames of different sizes", async () => {
    const cases: readonly (readonly [Uint8Array, RegExp])[] = [
      [
        field(2, field(1, [0, 0, 128, 63])),
        /frame 1 of rgb is not one bytes value \(expected one bytes value with one byte per feature, found a list of floats\)\. Quantize/,
      ],
      [field(3, field(1, [1, 2])), /found a list of integers/],
      [bytesFeature([1, 2], [3, 4]), /found no bytes value, or several/],
      [field(1), /found no bytes value, or several/],
      [new Uint8Array(0), /found nothing/],
      [bytesFeature([1, 2, 3]), /frame 1 of rgb differs in size from the first \(expected 2 bytes, found 3 bytes\)/],
    ];
    for (const [feature, words] of cases) {
      const error = await failsWith(parseLater(lists(entry("rgb", frames(bytesFeature([1, 2]), feature)))), "BAD_VIDEO", { record: 7 });
      assert.match(error.message, words);
    }
  });

  test("changed, truncated and random bytes give a value or NextvladError", () => {
    const parseSafely = (bytes: Uint8Array): void => {
      try {
        parse(bytes);
      } catch (error) {
        if (!(error instanceof NextvladError)) throw error;
      }
    };
    const change = fc.record({ at: fc.nat(SAMPLE.length - 1), to: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), fc.nat(SAMPLE.length), (changes, length) => {
        const damaged = SAMPLE.slice();
        for (const { at, to } of changes) damaged[at] = to;
        parseSafely(damaged);
        parseSafely(damaged.subarray(0, length));
      }),
      { numRuns: 2000 },
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), parseSafely), { numRuns: 1000 });
  });
});
