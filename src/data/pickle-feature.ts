import type { FileHandle } from "node:fs/promises";
import { NextvladError } from "../base/errors.js";
import { readExactly } from "../base/input.js";
import { NumpyArray, type PickledValue } from "../formats/pickle/values.js";
import type { Allocate } from "../formats/protobuf/feature-list.js";
import { decodeNumpy, itemBytes, type NumpyDtype } from "../formats/tensors/numpy.js";
import type { FeatureBytes } from "./video.js";
import type { VideoPlace } from "./video-check.js";

/** A feature's array; its data stay in the file if the file contains them verbatim. */
export interface PickledFeature {
  /** The feature's key in the dict, for errors. */
  readonly key: string;
  readonly rows: number;
  /** Number of columns; each becomes one byte when it is read. */
  readonly frameBytes: number;
  readonly dtype: NumpyDtype;
  readonly fortranOrder: boolean;
  /** `[rows, frameBytes]` of the dtype in the array's own order, or the byte offset of that data in the file. */
  readonly content: Uint8Array | number;
}

/**
 * Returns a video's feature from the value in its dict; undefined if it is missing or None. `file` is the bytes of the whole pickle. Throws BAD_VIDEO if the
 * value is not a two-dimensional array of numbers.
 */
export function takeFeature(value: PickledValue | undefined, key: string, file: Uint8Array, place: VideoPlace): PickledFeature | undefined {
  if (value === undefined || value === null) return undefined;
  const [rows, frameBytes] = value instanceof NumpyArray ? value.shape : [];
  if (
    !(value instanceof NumpyArray) ||
    value.dtype === "b1" ||
    value.shape.length !== 2 ||
    rows === undefined ||
    frameBytes === undefined
  ) {
    const found = value instanceof NumpyArray ? `${value.dtype} [${value.shape.join(", ")}]` : "no array";
    throw new NextvladError("BAD_VIDEO", `the video's ${key} is not an array of frames`, {
      ...place,
      expected: "uint8 [frames, size]",
      found,
      remedy: "quantise the features to bytes as YouTube-8M does, one row per frame",
    });
  }
  const { bytes, dtype, fortranOrder } = value;
  const content = bytes.buffer === file.buffer ? bytes.byteOffset - file.byteOffset : bytes;
  // A single row or column has the same layout in both orders.
  return { key, rows, frameBytes, dtype, fortranOrder: fortranOrder && rows > 1 && frameBytes > 1, content };
}

/**
 * Reads the first `min(frames, maxFrames)` rows as uint8, into memory from `allocate`. Throws FILE_UNREADABLE, BAD_FORMAT if the file is truncated while it is
 * read, and BAD_VIDEO if an array of another dtype than uint8 contains values that are not integers in 0..255.
 */
export async function readRows(
  feature: PickledFeature,
  { frames, maxFrames, place }: { readonly frames: number; readonly maxFrames: number; readonly place: VideoPlace },
  { handle, file }: { readonly handle: FileHandle; readonly file: string },
  allocate: Allocate,
): Promise<FeatureBytes> {
  const { rows, frameBytes, dtype, fortranOrder, content } = feature;
  const kept = Math.min(frames, maxFrames);
  const data = allocate(kept * frameBytes);
  if (dtype === "u1" && !fortranOrder && typeof content === "number") {
    await readExactly(handle, data, content, file);
    return { frames, frameBytes, data };
  }
  const needed = (fortranOrder ? rows : kept) * frameBytes * itemBytes(dtype);
  const bytes = typeof content === "number" ? new Uint8Array(needed) : content.subarray(0, needed);
  if (typeof content === "number") await readExactly(handle, bytes, content, file);
  const numbers = decodeNumpy(bytes, dtype);
  if (dtype === "u1" && !fortranOrder) data.set(bytes);
  else
    for (let row = 0; row < kept; row++) {
      for (let column = 0; column < frameBytes; column++) {
        const value = Number(numbers[fortranOrder ? column * rows + row : row * frameBytes + column]);
        const byte = value & 0xff;
        if (byte !== value) throw notByte(value, { row, column }, feature, place);
        data[row * frameBytes + column] = byte;
      }
    }
  return { frames, frameBytes, data };
}

function notByte(
  value: number,
  { row, column }: { readonly row: number; readonly column: number },
  { key, dtype }: PickledFeature,
  place: VideoPlace,
): NextvladError {
  return new NextvladError("BAD_VIDEO", `value ${column} of frame ${row} of ${key} (${dtype}) is not an integer in 0..255`, {
    ...place,
    expected: "quantised features",
    found: value,
    remedy:
      "quantise float features to bytes, uint8(round((clip(x, -2, 2) + 2) * 255 / 4)), or save them as .npy and run nextvlad convert --csv (docs/own-features.md)",
  });
}
