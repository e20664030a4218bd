import { NextvladError } from "../../base/errors.js";
import { readInput } from "../../base/input.js";
import { countValues } from "../../base/numbers.js";
import { showText } from "../../base/shown-value.js";
import { decodeNumpy, dtypeRemedy, itemBytes, type NumpyDtype, toRowMajor } from "./numpy.js";

/** The value types that are read. */
export type NpyDtype = Extract<NumpyDtype, "f2" | "f4" | "f8" | "i4" | "i8" | "u1">;

/** The value types that are written, by the class of their array, with numpy's `descr`: byte order, kind and bytes. */
export type NpyData = Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array;

const DESCRIPTIONS = new Map<unknown, string>([
  [Float32Array, "<f4"],
  [Float64Array, "<f8"],
  [Int32Array, "<i4"],
  [BigInt64Array, "<i8"],
  [Uint8Array, "|u1"],
]);

/** An array in row-major order, regardless of its order in the file. */
export interface NpyArray {
  /** The type of `data`: f4 if the file has f2. */
  readonly dtype: Exclude<NpyDtype, "f2">;
  /** `[]` is a scalar. */
  readonly shape: readonly number[];
  /** `[product of shape]`, a typed array of the dtype; float16 is converted to float32. */
  readonly data: NpyData;
}

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
const MAX_DIMENSIONS = 64;
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
  const expected = countValues(shape) * itemBytes(dtype);
  const stored = bytes.subarray(dataStart);
  if (stored.length !== expected) {
    throw new NextvladError("BAD_FORMAT", `wrong data length for ${dtype} [${shape.join(", ")}]`, {
      file,
      expected: `${expected} bytes of data`,
      found: stored.length,
    });
  }
  // New memory, so that the result neither shares nor keeps that of the file.
  const data = decodeNumpy(isFortran ? toRowMajor(stored, shape, dtype) : new Uint8Array(stored), dtype);
  return { dtype: dtype === "f2" ? "f4" : dtype, shape, data };
}

/** Parses only the header; `bytes` are the file's first `MAX_NPY_HEAD_BYTES`, or all of a shorter file. Throws BAD_FORMAT. */
export function parseNpyHeader(bytes: Buffer, file: string): NpyHeader {
  return parseHeader(splitHeader(bytes, file).text, file);
}

/** Splits a file into the magic string, two bytes of version, the header length (uint16 in version 1, uint32 later) and the header text. */
function splitHeader(bytes: Buffer, file: string): { text: string; dataStart: number } {
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new NextvladError("BAD_FORMAT", "not a .npy file", { file, remedy: "write one with numpy.save" });
  }
  const version = bytes[6] ?? 0;
  if (version < 1 || version > 3) {
    throw new NextvladError("BAD_FORMAT", "unsupported .npy version", { file, expected: "1, 2 or 3", found: version });
  }
  const start = version === 1 ? 10 : 12;
  if (bytes.length < start) throw new NextvladError("BAD_FORMAT", "truncated header", { file, found: `${bytes.length} bytes` });
  const length = version === 1 ? bytes.readUInt16LE(8) : bytes.readUInt32LE(8);
  const max = Math.min(bytes.length - start, MAX_HEADER_BYTES);
  if (length > max) {
    throw new NextvladError("BAD_FORMAT", "invalid header length", { file, expected: `at most ${max} bytes`, found: length });
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
    throw new NextvladError("BAD_FORMAT", "invalid header", { file, found: JSON.stringify(text.slice(0, 120).trim()) });
  }
  const dtype = /^[<|](f2|f4|f8|i4|i8|u1)$/.exec(descr ?? "")?.[1] as NpyDtype | undefined;
  if (dtype === undefined) {
    throw new NextvladError("BAD_FORMAT", "unsupported dtype", {
      file,
      expected: "little-endian f2, f4, f8, i4, i8 or u1",
      found: descr === undefined ? "a structured dtype" : showText(descr),
      remedy: dtypeRemedy(descr ?? ""),
    });
  }
  const dimensions = (shape.match(/\d+/g) ?? []).map(Number);
  if (dimensions.length > MAX_DIMENSIONS) {
    throw new NextvladError("BAD_FORMAT", "too many dimensions", {
      file,
      expected: `at most ${MAX_DIMENSIONS}`,
      found: dimensions.length,
    });
  }
  return { dtype, isFortran: order === "True", shape: dimensions };
}

/**
 * Encodes the header of a .npy file, format version 1 (numpy.lib.format): a Python dict, padded so that the data start at a multiple of 64 bytes. Throws
 * BAD_FORMAT if the data do not fit the shape.
 */
export function encodeNpyHeader(shape: readonly number[], data: NpyData): Uint8Array {
  if (data.length !== countValues(shape)) {
    throw new NextvladError("BAD_FORMAT", "the array's data do not match its shape", {
      expected: `${countValues(shape)} values for [${shape.join(", ")}]`,
      found: data.length,
    });
  }
  const descr = DESCRIPTIONS.get(Buffer.isBuffer(data) ? Uint8Array : data.constructor);
  const tuple = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  const dict = `{'descr': '${descr}', 'fortran_order': False, 'shape': ${tuple}, }`;
  const length = Math.ceil((10 + dict.length + 1) / 64) * 64 - 10;
  const head = Buffer.from("\x93NUMPY\x01\x00\0\0", "latin1");
  head.writeUInt16LE(length, 8);
  return Buffer.concat([head, Buffer.from(`${dict.padEnd(length - 1)}\n`, "latin1")]);
}
