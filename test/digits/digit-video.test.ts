import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { makeDigitVideo } from "../../src/digits/digit-video.js";
import { type DigitImages, IMAGE_PIXELS, readMnist } from "../../src/digits/mnist.js";

let digitImages: DigitImages;
/** The digit that an image of these bytes (base64) shows. */
let digitOfImage: Map<string, number>;

before(async () => {
  digitImages = await readMnist("t10k");
  digitOfImage = new Map();
  for (const [digit, images] of digitImages.imagesOf.entries()) {
    for (const image of images) digitOfImage.set(base64(digitImages.pixels, image * IMAGE_PIXELS), digit);
  }
});

function base64(bytes: Uint8Array, start: number): string {
  return Buffer.from(bytes.subarray(start, start + IMAGE_PIXELS)).toString("base64");
}

describe("a video of digits", () => {
  test("shows samples of the digits in its labels, each sample once, among blank and noise frames", () => {
    const kinds = { digit: 0, blank: 0, noise: 0 };
    const labelCounts = new Set<number>();
    const framesSeen = new Set<number>();
    for (let number = 0; number < 300; number++) {
      const video = makeDigitVideo(5, "validate", number, digitImages);
      assert.equal(video.rgb.length, video.frames * 1024);
      assert.equal(video.audio.length, video.frames * 128);
      const samples: string[] = [];
      const digitFrames = new Map<number, number>();
      for (let frame = 0; frame < video.frames; frame++) {
        const image = base64(video.rgb, frame * 1024);
        const digit = digitOfImage.get(image);
        assert.ok(video.rgb.subarray(frame * 1024 + IMAGE_PIXELS, (frame + 1) * 1024).every((byte) => byte === 0));
        if (digit !== undefined) {
          samples.push(image);
          digitFrames.set(digit, (digitFrames.get(digit) ?? 0) + 1);
          kinds.digit++;
        } else if (video.rgb.subarray(frame * 1024, (frame + 1) * 1024).some((byte) => byte > 0)) kinds.noise++;
        else kinds.blank++;
      }
      assert.equal(new Set(samples).size, samples.length, "a sample is repeated");
      assert.deepEqual([...digitFrames.keys()].sort(), [...video.labels], "the labels are not the digits shown, in ascending order");
      assert.ok(Math.min(...digitFrames.values()) >= 2);
      labelCounts.add(video.labels.length);
      framesSeen.add(video.frames);
    }
    assert.deepEqual([...labelCounts].sort(), [1, 2, 3]);
    assert.equal(Math.min(...framesSeen), 8);
    assert.equal(Math.max(...framesSeen), 60);
    const all = kinds.digit + kinds.blank + kinds.noise;
    // 10,000 frames: fractions within 2 % of the intended ones.
    assert.ok(Math.abs(kinds.digit / all - 0.66) < 0.02 && Math.abs(kinds.blank / all - 0.17) < 0.02, JSON.stringify(kinds));
  });

  test("has the means of the image's rows and columns as audio", () => {
    const video = makeDigitVideo(5, "train", 123, digitImages);
    assert.equal(video.id, "train000123");
    for (let frame = 0; frame < video.frames; frame++) {
      const expected = new Array<number>(128).fill(0);
      for (let line = 0; line < 28; line++) {
        let row = 0;
        let column = 0;
        for (let i = 0; i < 28; i++) {
          row += video.rgb[frame * 1024 + line * 28 + i] as number;
          column += video.rgb[frame * 1024 + i * 28 + line] as number;
        }
        expected[line] = Math.round(row / 28);
        expected[28 + line] = Math.round(column / 28);
      }
      assert.deepEqual([...video.audio.subarray(frame * 128, (frame + 1) * 128)], expected);
    }
  });

  test("depends only on the seed, the split and the number", () => {
    const video = makeDigitVideo(1, "train", 0, digitImages);
    assert.deepEqual(makeDigitVideo(1, "train", 0, digitImages), video);
    for (const other of [
      makeDigitVideo(2, "train", 0, digitImages),
      makeDigitVideo(1, "validate", 0, digitImages),
      makeDigitVideo(1, "train", 1, digitImages),
    ]) {
      assert.notDeepEqual(other.rgb, video.rgb);
    }
  });
});
