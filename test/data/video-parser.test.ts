import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { type ErrorCode, NextvladError } from "../../src/base/errors.js";
import { encodeVideo } from "../../src/data/shard-writer.js";
import type { Video, VideoShape } from "../../src/data/video.js";
import { parseVideo } from "../../src/data/video-parser.js";
import { readTfRecordFile } from "../../src/formats/containers/tfrecord.js";
import { encodeSequenceExample, type SequenceExampleContent } from "../../src/formats/protobuf/sequence-example.js";
import { collect, failsWith, goldenData, goldenVideos, randomVideo, SMALL_SIZES } from "../helpers/shards.js";

const SHAPE: VideoShape = { maxFrames: 300, featureNames: ["rgb", "audio"], featureSizes: SMALL_SIZES, numClasses: 10, labels: "required" };
const ID = Buffer.from("abcd");
const RGB = { name: "rgb", frameBytes: 6, data: new Uint8Array(12) };
const AUDIO = { name: "audio", frameBytes: 3, data: new Uint8Array(6) };

function parse(data: Uint8Array, shape: Partial<VideoShape> = {}): Video {
  return parseVideo({ data, file: "x.tfrecord", record: 4, byteOffset: 99, filePosition: 0 }, { ...SHAPE, ...shape });
}

const encode = (content: Partial<SequenceExampleContent>) =>
  encodeSequenceExample({ context: { id: ID, labels: [1] }, frameLists: [RGB, AUDIO], ...content });

async function refuses(
  content: Partial<SequenceExampleContent>,
  code: ErrorCode,
  words: RegExp,
  shape: Partial<VideoShape> = {},
): Promise<void> {
  const parsing = (async () => parse(encode(content), shape))();
  const error = await failsWith(parsing, code, { file: "x.tfrecord", record: 4, byteOffset: 99 });
  assert.match(error.message, words);
}

describe("valid videos", () => {
  test("the golden shards' videos equal those that numpy read, plain, gzip and zlib", async () => {
    const shape = { ...SHAPE, featureSizes: [1024, 128], numClasses: 50 } as const;
    for (const name of ["train0000.tfrecord", "train0000.tfrecord.gz", "train0000.tfrecord.zlib"]) {
      const videos = await collect(readTfRecordFile(goldenData(name)), (record) => parseVideo(record, shape));
      assert.deepEqual(videos, goldenVideos(), name);
    }
  });

  test("are read as they were written, cut to max_frames", () => {
    fc.assert(
      fc.property(fc.nat(1e6), fc.integer({ min: 1, max: 10 }), (number, maxFrames) => {
        const video = randomVideo(number);
        const frames = Math.min(video.frames, maxFrames);
        const cut = { ...video, frames, rgb: video.rgb.subarray(0, frames * 6), audio: video.audio.subarray(0, frames * 3) };
        assert.deepEqual(parse(encodeVideo(video), { maxFrames }), cut);
      }),
    );
  });

  test("may have video_id instead of id, and other feature names; labels are sorted and unique", () => {
    const content = {
      context: { video_id: ID, labels: [7, 2, 7, 0, 2] },
      frameLists: [
        { ...AUDIO, name: "sound" },
        { ...RGB, name: "vision" },
      ],
    };
    const video = parse(encode(content), { featureNames: ["vision", "sound"] });
    assert.equal(video.id, "abcd");
    assert.deepEqual(video.labels, Int32Array.of(0, 2, 7));
  });

  test("may have an empty list of labels; if labels are optional, none, or other classes", () => {
    assert.deepEqual(parse(encode({ context: { id: ID, labels: [] } })).labels, new Int32Array(0));
    assert.deepEqual(parse(encode({ context: { id: ID } }), { labels: "optional" }).labels, new Int32Array(0));
    assert.deepEqual(parse(encode({ context: { id: ID, labels: [4000] } }), { labels: "optional" }).labels, Int32Array.of(4000));
  });
});

describe("invalid videos", () => {
  test("without an ID, or with one that is not bytes", async () => {
    await refuses(
      { context: { labels: [1] } },
      "BAD_VIDEO",
      /has no ID \(expected a context feature id or video_id of bytes, found "labels"\)\. Write the ID into the context .*"id"\]\.bytes_list/,
    );
    await refuses({ context: { id: [5] } }, "BAD_VIDEO", /has no ID \(.*, found "id" of type int64\)/);
  });

  test("without a feature list: the error names the existing ones", async () => {
    await refuses(
      { frameLists: [RGB, { ...AUDIO, name: "sound" }] },
      "BAD_VIDEO",
      /video abcd: the video has no feature list named audio \(found "rgb", "sound"\)\. .*--set 'MODEL\.feature_names=\[rgb, audio_embedding\]'/,
    );
    await refuses({ frameLists: [] }, "BAD_VIDEO", /no feature list named rgb \(found none\)/);
  });

  test("without frames, or with different numbers of rgb and audio frames, also past max_frames", async () => {
    const none = new Uint8Array(0);
    await refuses(
      {
        frameLists: [
          { ...RGB, data: none },
          { ...AUDIO, data: none },
        ],
      },
      "BAD_VIDEO",
      /the video has no frames/,
    );
    const longer = { ...RGB, data: new Uint8Array(18) };
    await refuses(
      { frameLists: [longer, AUDIO] },
      "BAD_VIDEO",
      /different numbers of frames \(expected 3 frames of audio, as of rgb, found 2\)/,
    );
    await refuses({ frameLists: [longer, AUDIO] }, "BAD_VIDEO", /different numbers of frames/, { maxFrames: 1 });
  });

  test("with a feature size that does not match the model: the error has both sizes and the key", async () => {
    await refuses(
      {},
      "BAD_VIDEO",
      /the feature size of rgb does not match the model \(expected 7 bytes per frame, found 6\)\. Set MODEL\.video_feature_size to 6/,
      {
        featureSizes: [7, 3],
      },
    );
    await refuses({}, "BAD_VIDEO", /feature size of audio does not match.*expected 2 bytes per frame, found 3.*MODEL\.audio_feature_size/, {
      featureSizes: [6, 2],
    });
  });

  test("with floats as bytes: the error has the command that quantizes them, if the bytes or the size show it", async () => {
    const frames = (values: Float32Array, frameBytes: number): SequenceExampleContent["frameLists"] => [
      { name: "rgb", frameBytes, data: new Uint8Array(values.buffer) },
    ];
    const featureSizes = [64, 0] as const;
    const floats = Float32Array.from({ length: 128 }, (_, i) => (((i * 37) % 101) - 50) / 25);
    const isFloat32 =
      /the frames of rgb are float32 values, 4 bytes per feature.*expected 64 bytes per frame, found 256\)\. Quantize .*convert --to tfrecord --feature-dtype float32/;
    await refuses({ frameLists: frames(floats, 256) }, "BAD_VIDEO", isFloat32, { featureSizes });
    // Zeros may be either floats or bytes; without the bytes, only the size indicates the type.
    const maybe = (type: string): RegExp =>
      new RegExp(
        `feature size of rgb does not match the model .*If these are ${type} values, .*; if each byte is a feature, set MODEL\\.video_feature_size to`,
      );
    await refuses({ frameLists: frames(new Float32Array(128), 256) }, "BAD_VIDEO", maybe("float32"), { featureSizes });
    await refuses({ frameLists: frames(new Float32Array(128), 128) }, "BAD_VIDEO", maybe("float16"), { featureSizes });
    await refuses({ frameLists: frames(floats, 256) }, "BAD_VIDEO", maybe("float32"), { featureSizes, maxFrames: 0 });
    // Bytes that are not floats are one feature each.
    const bytes = new Float32Array(Uint8Array.from({ length: 512 }, (_, i) => 100 + ((i * 37) % 101)).buffer);
    await refuses({ frameLists: frames(bytes, 256) }, "BAD_VIDEO", /\(expected 64 bytes per frame, found 256\)\. Set MODEL/, {
      featureSizes,
    });
  });

  test("without required labels, with labels that are not integers, negative, or not below the number of classes", async () => {
    await refuses({ context: { id: ID } }, "BAD_LABELS", /the video has no labels, and training and evaluation need them/);
    await refuses(
      { context: { id: ID, labels: ID } },
      "BAD_LABELS",
      /labels are not integers \(expected int64, found bytes\)\. Write class indices .*int64 values/,
    );
    await refuses({ context: { id: ID, labels: [1, 10] } }, "BAD_LABELS", /expected 0 to 9, found 10\)\. Set MODEL\.num_classes/);
    await refuses({ context: { id: ID, labels: [-1] } }, "BAD_LABELS", /expected 0 to 9, found -1/);
    await refuses({ context: { id: ID, labels: [2 ** 31] } }, "BAD_LABELS", /found 2147483648/, { labels: "optional" });
  });

  test("a video-level Example", async () => {
    await refuses(
      { context: { id: ID, labels: [1], mean_rgb: ID, mean_audio: ID }, frameLists: [] },
      "BAD_VIDEO",
      /this is a video-level Example; this tool needs frame-level SequenceExamples.*2\/frame\/train/,
    );
  });

  test("mutated bytes yield a video or a NextvladError", () => {
    const whole = encodeVideo(randomVideo(3));
    const change = fc.record({ at: fc.nat(whole.length - 1), to: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 3 }), (changes) => {
        const damaged = whole.slice();
        for (const { at, to } of changes) damaged[at] = to;
        try {
          parse(damaged);
        } catch (error) {
          if (!(error instanceof NextvladError)) throw error;
        }
      }),
      { numRuns: 1000 },
    );
  });
});
