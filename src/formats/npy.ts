import { NextvladError } from "../base/errors.js";
import { readInput } from "../base/input.js";
import { showText } from "../base/shown-value.js";
import { decodeFloat16 } from "./float16.js";
import { adviseOnDtype } from "./numpy-advice.js";

/** The typed array that the values are read into; float16 is read as raw bits first. */
const ARRAYS = { f2: Uint16Array, f4: Float32Array, f8: Float64Array, i4: Int32Array, i8: BigInt64Array, u1: Uint8Array } as const;

/** A value type, named as in numpy's `descr` without the byte order. */
export type NpyDtype = keyof typeof ARRAYS;

/** An array in row-major order, regardless of its order in the file. */
export interface NpyArray {
  /** The type of `data`: f4 if the file has f2. */
  readonly dtype: Exclude<NpyDtype, "f2">;
  /** `[]` is a scalar. */
  readonly shape: readonly number[];
  /** `[product of shape]`, a typed array of the dtype; float16 is converted to float32. */
  readonly data: Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array;
}

type StoredArray = InstanceType<(typeof ARRAYS)[NpyDtype]>;

/** The header of a .npy file. */
export interface NpyHeader {
  readonly dtype: NpyDtype;
  readonly isFortran: boolean;
  readonly shape: readonly number[];
}

/** Maximum size of a .npy file; a day of float64 frames is 0.7 GB. */
export const MAX_NPY_BYTES = 2 ** 30;
/** numpy's own limit; a longer header is corrupt or malicious. */
const MAX_HEADER_BYTES = 10_000;
/** Maximum offset of the data in a .npy file. */
export const MAX_NPY_HEAD_BYTES = 12 + MAX_HEADER_BYTES;
/** numpy's own limit (32 before 2.0): converting an array to row-major order takes time per value and dimension. */
const MAX_SIDES = 64;
const MAGIC = Buffer.from("\x93NUMPY", "latin1");

/**
 * Reads a .npy file of format version 1, 2 or 3 (numpy.lib.format) that contains little-endian f2, f4, f8, i4, i8 or u1 values.
 * Throws FILE_MISSING, FILE_UNREADABLE, or BAD_FORMAT if the file has another format or type, is truncated, or has trailing bytes.
 */
export async function readNpy(file: string): Promise<NpyArray> {
  return parseNpy(await readInput(file, file, MAX_NPY_BYTES), file);
}

/** Parses the bytes of a .npy file; `file` is its name in errors. Throws BAD_FORMAT like `readNpy`. */
export function parseNpy(bytes: Buffer, file: string): NpyArray {
  const { text, dataStart } = splitHeader(bytes, file);
  const { dtype, isFortran, shape } = parseHeader(text, file);
  const size = shape.reduce((product, side) => product * side, 1);
  const expected = size * ARRAYS[dtype].BYTES_PER_ELEMENT;
  if (bytes.length - dataStart !== expected) {
    throw new NextvladError("BAD_FORMAT", `its length does not fit an array ${dtype} [${shape.join(", ")}]`, {
      file,
      expected: `${expected} bytes of data`,
      found: bytes.length - dataStart,
    });
  }
  // A copy, because the data may not be aligned for wider values in the file's memory.
  const data = new ARRAYS[dtype](Uint8Array.from(bytes.subarray(dataStart)).buffer);
  if (isFortran) toRowMajor(data.slice(), shape, data);
  if (dtype === "f2") return { dtype: "f4", shape, data: decodeFloat16(data as Uint16Array) };
  return { dtype, shape, data: data as NpyArray["data"] };
}

/** Parses only the header; `bytes` are the file's first `MAX_NPY_HEAD_BYTES`, or all of a shorter file. Throws BAD_FORMAT. */
export function parseNpyHeader(bytes: Buffer, file: string): NpyHeader {
  return parseHeader(splitHeader(bytes, file).text, file);
}

/** Splits a file into the magic string, two bytes of version, the header length (uint16 in version 1, uint32 later) and the header text. */
function splitHeader(bytes: Buffer, file: string): { text: string; dataStart: number } {
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new NextvladError("BAD_FORMAT", "this is no .npy file", { file, remedy: "write one with numpy.save" });
  }
  const version = bytes[6] ?? 0;
  if (version < 1 || version > 3) {
    throw new NextvladError("BAD_FORMAT", "its .npy format version is unknown", { file, expected: "1, 2 or 3", found: version });
  }
  const start = version === 1 ? 10 : 12;
  if (bytes.length < start)
    throw new NextvladError("BAD_FORMAT", "the file ends within its header", { file, found: `${bytes.length} bytes` });
  const length = version === 1 ? bytes.readUInt16LE(8) : bytes.readUInt32LE(8);
  const most = Math.min(bytes.length - start, MAX_HEADER_BYTES);
  if (length > most) {
    throw new NextvladError("BAD_FORMAT", "the header's length cannot be true", { file, expected: `at most ${most} bytes`, found: length });
  }
  return { text: bytes.toString(version === 3 ? "utf8" : "latin1", start, start + length), dataStart: start + length };
}

/** Parses the header, a Python dict: `{'descr': '<f4', 'fortran_order': False, 'shape': (2048, 1), }`, with its keys in any order. */
function parseHeader(text: string, file: string): NpyHeader {
  const descr = /['"]descr['"]\s*:\s*(['"])(.*?)\1/.exec(text)?.[2];
  const order = /['"]fortran_order['"]\s*:\s*(True|False)/.exec(text)?.[1];
  // Python 2 wrote a long as 3L.
  const shape = /['"]shape['"]\s*:\s*\(((?:\s*\d+L?\s*,)*\s*(?:\d+L?\s*)?)\)/.exec(text)?.[1];
  if (order === undefined || shape === undefined) {
    throw new NextvladError("BAD_FORMAT", "its header cannot be understood", { file, found: JSON.stringify(text.slice(0, 120).trim()) });
  }
  const dtype = /^[<|](f2|f4|f8|i4|i8|u1)$/.exec(descr ?? "")?.[1] as NpyDtype | undefined;
  if (dtype === undefined) {
    throw new NextvladError("BAD_FORMAT", "its values are of a type that is not supported", {
      file,
      expected: "little-endian f2, f4, f8, i4, i8 or u1",
      found: descr === undefined ? "a structure" : showText(descr),
      remedy: adviseOnDtype(descr ?? ""),
    });
  }
  const sides = (shape.match(/\d+/g) ?? []).map(Number);
  if (sides.length > MAX_SIDES) {
    throw new NextvladError("BAD_FORMAT", "the array has more sides than numpy's", {
      file,
      expected: `at most ${MAX_SIDES}`,
      found: sides.length,
    });
  }
  return { dtype, isFortran: order === "True", shape: sides };
}

/** Converts from Fortran order (the first index varies fastest) to row-major order (the last index varies fastest). */
function toRowMajor(from: StoredArray, shape: readonly number[], to: StoredArray): void {
  const strides = shape.map((_, axis) => shape.slice(0, axis).reduce((product, side) => product * side, 1));
  const index = shape.map(() => 0);
  let source = 0;
  for (let i = 0; i < to.length; i++) {
    to[i] = from[source] as never;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const stride = strides[axis] as number;
      source += stride;
      index[axis] = (index[axis] as number) + 1;
      if ((index[axis] as number) < (shape[axis] as number)) break;
      source -= stride * (shape[axis] as number);
      index[axis] = 0;
    }
  }
}
