import type { FileHandle } from "node:fs/promises";
import { fileError, NextvladError } from "../base/errors.js";
import type { Allocate } from "../formats/frame-list.js";
import { NumpyArray, type PickledValue } from "../formats/pickle-values.js";
import type { FeatureBytes } from "./video.js";
import type { VideoPlace } from "./video-check.js";

/** A feature's array, still in the file where it stands there as it is. */
export interface PickledFeature {
  readonly rows: number;
  readonly frameBytes: number;
  readonly fortranOrder: boolean;
  /** `[rows, frameBytes] uint8` in the array's own order, or where in the file that begins. */
  readonly content: Uint8Array | number;
}

/** A video's feature as its dict has it; undefined where it has none. `file` is the bytes of the whole pickle. Throws BAD_VIDEO. */
export function takeFeature(value: PickledValue | undefined, key: string, file: Uint8Array, place: VideoPlace): PickledFeature | undefined {
  if (value === undefined || value === null) return undefined;
  const [rows, frameBytes] = value instanceof NumpyArray ? value.shape : [];
  if (
    !(value instanceof NumpyArray) ||
    value.dtype !== "u1" ||
    value.shape.length !== 2 ||
    rows === undefined ||
    frameBytes === undefined
  ) {
    const found = value instanceof NumpyArray ? `${value.dtype} [${value.shape.join(", ")}]` : "no array";
    throw new NextvladError("BAD_VIDEO", `the video's ${key} is no array of frames`, {
      ...place,
      expected: "uint8 [frames, size]",
      found,
      remedy: "quantise the features to bytes as YouTube-8M does, one row a frame",
    });
  }
  const { bytes, fortranOrder } = value;
  const content = bytes.buffer === file.buffer ? bytes.byteOffset - file.byteOffset : bytes;
  // A single row or column is in both orders at once.
  return { rows, frameBytes, fortranOrder: fortranOrder && rows > 1 && frameBytes > 1, content };
}

/** The first rows, where `allocate` says. Throws FILE_UNREADABLE, BAD_FORMAT. */
export async function readRows(
  { rows, frameBytes, fortranOrder, content }: PickledFeature,
  { frames, maxFrames }: { readonly frames: number; readonly maxFrames: number },
  { handle, file }: { readonly handle: FileHandle; readonly file: string },
  allocate: Allocate,
): Promise<FeatureBytes> {
  const kept = Math.min(frames, maxFrames);
  const data = allocate(kept * frameBytes);
  if (!fortranOrder) {
    if (typeof content === "number") await readAt(handle, data, content, file);
    else data.set(content.subarray(0, data.length));
    return { frames, frameBytes, data };
  }
  let columns = content;
  if (typeof columns === "number") {
    const whole = new Uint8Array(rows * frameBytes);
    await readAt(handle, whole, columns, file);
    columns = whole;
  }
  for (let row = 0; row < kept; row++) {
    for (let column = 0; column < frameBytes; column++) data[row * frameBytes + column] = columns[column * rows + row] as number;
  }
  return { frames, frameBytes, data };
}

async function readAt(handle: FileHandle, target: Uint8Array, position: number, file: string): Promise<void> {
  for (let done = 0; done < target.length; ) {
    const { bytesRead } = await handle.read(target, done, target.length - done, position + done).catch((error: unknown) => {
      throw fileError(error, file, "read");
    });
    if (bytesRead === 0) throw new NextvladError("BAD_FORMAT", "the file became shorter while it was read", { file, remedy: "run again" });
    done += bytesRead;
  }
}
