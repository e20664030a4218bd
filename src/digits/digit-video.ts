import { createRandom, type Random } from "../base/random.js";
import type { Video } from "../data/video.js";
import { type DigitImages, IMAGE_PIXELS, IMAGE_SIDE } from "./mnist.js";

/** Which videos to make: each split has its own images and its own random numbers. */
export type Split = "train" | "validate";

const RGB_BYTES = 1024;
const AUDIO_BYTES = 128;
const MIN_FRAMES = 8;
const MAX_FRAMES = 60;
const MAX_DIGITS = 3;
/** Fraction of the frames that show a digit; the others are blank or noise, with equal probability. */
const DIGIT_SHARE = 0.65;
/** Bits of a random byte that a noise frame keeps: gray values below 64, or all. */
const NOISE_MASKS = [0x3f, 0xff] as const;

/**
 * Makes a video of handwritten digits: 8 to 60 frames in random order. 65 % of them (rounded up) show samples of 1 to 3 digits, each sample once and each digit
 * about equally often; the others are blank or noise.
 * `rgb` `[frames, 1024] uint8` is a frame's 784 pixels, then zeros; `audio` `[frames, 128] uint8` is the means of its 28 rows, then of its 28 columns, then
 * zeros; the labels are the digits shown. A pure function of its arguments.
 */
export function makeDigitVideo(seed: number, split: Split, number: number, images: DigitImages): Video {
  const random = createRandom(seed, "digits", split === "train" ? 0 : 1, number);
  const frames = MIN_FRAMES + random.below(MAX_FRAMES - MIN_FRAMES + 1);
  const digits = random.shuffle([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).slice(0, 1 + random.below(MAX_DIGITS));
  const frameImages: Uint8Array[] = [];
  const digitFrames = Math.ceil(DIGIT_SHARE * frames);
  for (const [nth, digit] of digits.entries()) {
    const samples = Math.floor((digitFrames + nth) / digits.length);
    frameImages.push(...pickSamples(images, digit, samples, random));
  }
  while (frameImages.length < frames) frameImages.push(random.below(2) === 0 ? new Uint8Array(IMAGE_PIXELS) : makeNoise(random));
  random.shuffle(frameImages);

  const rgb = new Uint8Array(frames * RGB_BYTES);
  const audio = new Uint8Array(frames * AUDIO_BYTES);
  for (const [frame, image] of frameImages.entries()) {
    rgb.set(image, frame * RGB_BYTES);
    audio.set(rowAndColumnMeans(image), frame * AUDIO_BYTES);
  }
  const id = `${split}${String(number).padStart(6, "0")}`;
  return { id, frames, rgb, audio, labels: Int32Array.from(digits).sort() };
}

/** Returns `count` distinct samples of a digit, at random. */
function pickSamples({ pixels, imagesOf }: DigitImages, digit: number, count: number, random: Random): Uint8Array[] {
  const samples = imagesOf[digit] as Int32Array;
  const picked = new Set<number>();
  while (picked.size < count) picked.add(samples[random.below(samples.length)] as number);
  return Array.from(picked, (image) => pixels.subarray(image * IMAGE_PIXELS, (image + 1) * IMAGE_PIXELS));
}

function makeNoise(random: Random): Uint8Array {
  const mask = NOISE_MASKS[random.below(NOISE_MASKS.length)] as number;
  const image = new Uint8Array(IMAGE_PIXELS);
  for (let pixel = 0; pixel < IMAGE_PIXELS; ) {
    // A random draw is slow compared to a shift, so one draw is used for four pixels.
    const bits = random.below(2 ** 32);
    for (let shift = 0; shift < 32; shift += 8) image[pixel++] = (bits >>> shift) & mask;
  }
  return image;
}

/** Returns `[56] uint8`: the mean gray value of each row, then of each column. */
function rowAndColumnMeans(image: Uint8Array): Uint8Array {
  const sums = new Uint16Array(2 * IMAGE_SIDE);
  for (let pixel = 0; pixel < IMAGE_PIXELS; pixel++) {
    const grey = image[pixel] as number;
    const row = Math.floor(pixel / IMAGE_SIDE);
    const column = IMAGE_SIDE + (pixel % IMAGE_SIDE);
    sums[row] = (sums[row] as number) + grey;
    sums[column] = (sums[column] as number) + grey;
  }
  return Uint8Array.from(sums, (sum) => Math.round(sum / IMAGE_SIDE));
}
