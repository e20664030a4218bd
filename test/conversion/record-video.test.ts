import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import fc from "fast-check";
import { NextvladError } from "../../src/base/errors.js";
import { type ConversionResult, convertShard } from "../../src/conversion/convert-worker.js";
import type { ShardSource } from "../../src/conversion/record-video.js";
import { readShard } from "../../src/data/shard-reader.js";
import type { Video } from "../../src/data/video.js";
import { encodeTfRecord } from "../../src/formats/containers/tfrecord.js";
import { encodeSequenceExample } from "../../src/formats/protobuf/sequence-example.js";
import { temporaryFolder } from "../helpers/files.js";
import { collect, failsWith, goldenData } from "../helpers/shards.js";

/** Written by Python's protobuf: scripts/golden/float_features.py. */
const golden = JSON.parse(readFileSync(goldenData("float_features.json"), "utf8")) as {
  readonly [feature in "rgb" | "audio" | "rgb16" | "audio16"]: readonly (readonly number[])[];
} & { readonly examples: Readonly<Record<string, string>> };
const exampleOf = (name: string): Uint8Array => Buffer.from(golden.examples[name] as string, "base64");
const MEDIAPIPE = ["RGB/feature/floats", "AUDIO/feature/floats"] as const;

interface Converted extends ConversionResult {
  readonly video: Video;
}

async function convert(t: TestContext, name: string, content: Uint8Array, source: Partial<ShardSource> = {}): Promise<Converted> {
  const path = join(temporaryFolder(t), name);
  const output = join(temporaryFolder(t), "out.tfrecord");
  writeFileSync(path, content);
  const full: ShardSource = {
    kind: "shard",
    path,
    featureNames: MEDIAPIPE,
    dtype: undefined,
    ranges: [
      [-2, 2],
      [-2, 2],
    ],
    ...source,
  };
  const result = await convertShard({ source: full, format: "tfrecord", output, maxFrames: 300 });
  const shape = { maxFrames: 300, featureNames: ["rgb", "audio"], featureSizes: [null, null], numClasses: 10, labels: "optional" } as const;
  const [video] = await collect(readShard(output, shape), (shardVideo) => shardVideo.video);
  return { ...result, video: video as Video };
}

const expected = (change: Partial<Video> = {}): Video => ({
  id: "AbCd",
  frames: 4,
  rgb: Uint8Array.from(golden.rgb.flat()),
  audio: Uint8Array.from(golden.audio.flat()),
  labels: Int32Array.of(2, 5),
  ...change,
});

const BYTE_LISTS = { featureNames: ["rgb", "audio"] } as const;

describe("features of floats are quantized to YouTube-8M's bytes", () => {
  for (const name of ["floats", "unpacked floats"]) {
    test(`lists of ${name} in a TFRecord`, async (t) => {
      const { video, sizes, statistics, cutVideos } = await convert(t, "x.tfrecord", encodeTfRecord(exampleOf(name)));
      assert.deepEqual(video, expected());
      assert.deepEqual([sizes, cutVideos], [[24, 20], 0]);
      assert.deepEqual([statistics[0].values, statistics[1].values], [96, 80]);
      const clipped = golden.rgb.flat().filter((byte) => byte === 0 || byte === 255).length;
      assert.ok(clipped > 0 && Math.abs(statistics[0].clipped - clipped) <= 1, "values outside the range are counted");
    });
  }

  test("frames of float32 and float16 as bytes need --feature-dtype", async (t) => {
    for (const [dtype, rgb, audio] of [
      ["float32", golden.rgb, golden.audio],
      ["float16", golden.rgb16, golden.audio16],
    ] as const) {
      const record = encodeTfRecord(exampleOf(`${dtype} as bytes`));
      const { video } = await convert(t, "x.tfrecord", record, { ...BYTE_LISTS, dtype });
      assert.deepEqual(video, expected({ rgb: Uint8Array.from(rgb.flat()), audio: Uint8Array.from(audio.flat()) }));
      const { message } = await failsWith(convert(t, "x.tfrecord", record, BYTE_LISTS), "BAD_VIDEO", { video: "AbCd" });
      assert.match(message, new RegExp(`frames of rgb look like ${dtype} values.*Add --feature-dtype ${dtype} to quantize them`));
      const asBytes = await convert(t, "x.tfrecord", record, { ...BYTE_LISTS, dtype: "uint8" });
      assert.equal(asBytes.sizes?.[0], dtype === "float32" ? 96 : 48);
    }
  });

  test("another range", async (t) => {
    const ranges = [
      [-4, 4],
      [-1, 1],
    ] as const;
    const { video } = await convert(t, "x.tfrecord", encodeTfRecord(exampleOf("floats")), { ranges });
    for (const [i, byte] of video.rgb.entries()) {
      const usual = golden.rgb.flat()[i] as number;
      if (usual > 0 && usual < 255) assert.ok(Math.abs(byte - (usual - 127.5) / 2 - 127.5) <= 0.75, `${byte} for ${usual}`);
    }
  });

  test("MediaPipe's features.pb: one SequenceExample, with the ID and labels of MediaPipe's keys, or the file's name as the ID", async (t) => {
    const { video } = await convert(t, "features.pb", exampleOf("MediaPipe's keys"));
    assert.deepEqual(video, expected({ id: "cat.v2", labels: Int32Array.of(3) }));
    const unnamed = await convert(t, "dog0001.pb", exampleOf("no id"));
    assert.deepEqual(unnamed.video, expected({ id: "dog0001", labels: Int32Array.of(1) }));
  });

  test("a features.pb of MediaPipe's sizes, and the same in a TFRecord with an ID and labels, give the same bytes", async (t) => {
    const extracted = await convert(t, "features.pb", exampleOf("extracted by MediaPipe"));
    const labeled = await convert(t, "x.tfrecord", encodeTfRecord(exampleOf("extracted by MediaPipe, labeled")));
    assert.deepEqual(extracted.sizes, [1024, 128]);
    assert.deepEqual([extracted.video.id, extracted.video.frames, extracted.video.labels], ["cat", 2, new Int32Array()]);
    assert.deepEqual(labeled.video, { ...extracted.video, labels: Int32Array.of(3) });
  });

  test("records that repeat a MediaPipe ID are counted; the name of a TFRecord is not used as an ID", async (t) => {
    const record = encodeTfRecord(exampleOf("MediaPipe's keys"));
    assert.equal((await convert(t, "x.tfrecord", Buffer.concat([record, record, record]))).repeatedIds, 2);
    assert.equal((await convert(t, "x.tfrecord", encodeTfRecord(exampleOf("floats")))).repeatedIds, 0);
    await failsWith(convert(t, "x.pb", encodeTfRecord(exampleOf("no id"))), "BAD_VIDEO", { record: 0 });
  });

  test("rgb is truncated if audio has one frame fewer; a larger difference is an error", async (t) => {
    const { video, cutVideos } = await convert(t, "x.tfrecord", encodeTfRecord(exampleOf("one frame of audio fewer")));
    const [rgb, audio] = [golden.rgb, golden.audio].map((rows) => Uint8Array.from(rows.slice(0, 3).flat()));
    assert.deepEqual(video, expected({ frames: 3, rgb: rgb as Uint8Array, audio: audio as Uint8Array }));
    assert.equal(cutVideos, 1);
    const more = convert(t, "x.tfrecord", encodeTfRecord(exampleOf("two frames of audio fewer")));
    assert.match((await failsWith(more, "BAD_VIDEO")).message, /different numbers of frames/);
  });
});

describe("records that cannot be converted", () => {
  test("with NaN: the error names the frame and the value", async (t) => {
    const { message } = await failsWith(convert(t, "x.tfrecord", encodeTfRecord(exampleOf("NaN"))), "BAD_VIDEO", {
      record: 0,
      video: "AbCd",
    });
    assert.match(message, /value 7 of frame 0 of RGB\/feature\/floats is NaN or Inf \(found NaN\)/);
  });

  test("with feature lists of other names: the error lists them, and the flag that selects lists", async (t) => {
    const floats = encodeTfRecord(exampleOf("floats"));
    const { message } = await failsWith(convert(t, "x.tfrecord", floats, BYTE_LISTS), "BAD_VIDEO", { record: 0, video: "AbCd" });
    assert.match(message, /no feature list named rgb or audio \(found .*"RGB\/feature\/floats"/);
    assert.match(message, /--feature-names RGB\/feature\/floats,AUDIO\/feature\/floats; one of them may be missing\.$/);
    const lists = (...names: string[]): Uint8Array =>
      encodeTfRecord(
        encodeSequenceExample({
          context: { id: Buffer.from("a") },
          frameLists: names.map((name) => ({ name, frameBytes: 3, data: Uint8Array.of(1, 2, 3) })),
        }),
      );
    const audioSet = await failsWith(convert(t, "x.tfrecord", lists("audio_embedding"), BYTE_LISTS), "BAD_VIDEO", { video: "a" });
    assert.match(audioSet.message, /\(found "audio_embedding"\)\. .*--feature-names rgb,audio_embedding;/);
    const { missingList } = await convert(t, "x.tfrecord", lists("rgb", "sound"), BYTE_LISTS);
    assert.match(String(missingList), /no feature list named audio, but "sound"; name the two to convert with --feature-names/);
  });

  test("in a TFRecord, without an ID: the error names the feature to write", async (t) => {
    const { message } = await failsWith(convert(t, "x.tfrecord", encodeTfRecord(exampleOf("no id"))), "BAD_VIDEO", { record: 0 });
    assert.match(message, /expected a context feature id or video_id of bytes, found "labels"\)\. Write the ID into the context/);
  });

  test("with labels as a 0/1 vector, of few classes or many", async (t) => {
    const labeled = (labels: readonly number[]): Promise<Converted> => {
      const context = { id: Buffer.from("a"), labels };
      const example = encodeSequenceExample({ context, frameLists: [{ name: "rgb", frameBytes: 3, data: Uint8Array.of(1, 2, 3) }] });
      return convert(t, "x.tfrecord", encodeTfRecord(example), BYTE_LISTS);
    };
    for (const labels of [[0, 1, 0], [0, 1, 0, 0, 1], Array.from({ length: 3862 }, (_, label) => Number(label === 7))]) {
      const { message } = await failsWith(labeled(labels), "BAD_LABELS", { video: "a" });
      assert.match(message, new RegExp(`multi-hot.*found ${labels.length} values, each 0 or 1\\)`));
    }
    // Class indices.
    for (const labels of [
      [0, 1],
      [1, 0],
      [0, 1, 2],
    ]) {
      assert.deepEqual((await labeled(labels)).video.labels, Int32Array.from(labels).sort());
    }
  });

  test("with frames that are empty lists of floats", async (t) => {
    // FeatureLists{"RGB/feature/floats": 2 x Feature{float_list: FloatList{}}}
    const feature = Buffer.from("0a021200", "hex");
    const list = Buffer.concat([feature, feature]);
    const field = (tag: number, ...parts: readonly Uint8Array[]): Buffer => {
      const content = Buffer.concat(parts);
      return Buffer.concat([Buffer.of(tag, content.length), content]);
    };
    const entry = field(0x0a, field(0x0a, Buffer.from(MEDIAPIPE[0])), field(0x12, list));
    const id = field(0x0a, field(0x0a, field(0x0a, Buffer.from("id")), field(0x12, field(0x0a, field(0x0a, Buffer.from("a"))))));
    const { message } = await failsWith(convert(t, "x.tfrecord", encodeTfRecord(Buffer.concat([id, field(0x12, entry)]))), "BAD_VIDEO", {
      record: 0,
      damaged: "record",
    });
    assert.match(message, /the frames of RGB\/feature\/floats are empty/);
  });

  test("with changed bytes: the result is a video or a NextvladError, in a TFRecord or not", async (t) => {
    const whole = exampleOf("MediaPipe's keys");
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 3 }),
        fc.boolean(),
        async (changes, framed) => {
          const damaged = Uint8Array.from(whole);
          for (const [at, to] of changes) damaged[at] = to;
          const content = framed ? encodeTfRecord(damaged) : damaged;
          await convert(t, "x.pb", content).catch((error: unknown) => assert.ok(error instanceof NextvladError, String(error)));
        },
      ),
      { numRuns: 100 },
    );
  });
});
