import { type ErrorDetails, NextvladError } from "../base/errors.js";
import { showValue } from "../base/shown-value.js";

const ARRAYS = {
  BOOL: Uint8Array,
  U8: Uint8Array,
  I8: Int8Array,
  U16: Uint16Array,
  I16: Int16Array,
  U32: Uint32Array,
  I32: Int32Array,
  F32: Float32Array,
  U64: BigUint64Array,
  I64: BigInt64Array,
  F64: Float64Array,
} as const;

/** A tensor's value type, as safetensors names it; the 16- and 8-bit floats are not supported. */
export type Dtype = keyof typeof ARRAYS;

export type TensorData =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | BigUint64Array
  | BigInt64Array
  | Float64Array;

/** A tensor's type, shape and byte range in a safetensors file. */
export interface TensorEntry {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** First byte, and the one after the last, relative to the end of the header. */
  readonly begin: number;
  readonly end: number;
}

/** The parsed header of a safetensors file. */
export interface SafetensorsHeader {
  readonly metadata: Readonly<Record<string, string>>;
  /** In the order of the header. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
}

export const METADATA_KEY = "__metadata__";

/** Bytes of one value. */
export function sizeOfDtype(dtype: Dtype): number {
  return ARRAYS[dtype].BYTES_PER_ELEMENT;
}

/** Returns an array of a dtype over a whole buffer. */
export function arrayOver(dtype: Dtype, buffer: ArrayBuffer): TensorData {
  return new ARRAYS[dtype](buffer);
}

/** Whether an array has the type of a dtype. */
export function isArrayOf(dtype: Dtype, data: TensorData): boolean {
  return data instanceof ARRAYS[dtype];
}

/** Number of values in a tensor of this shape; `[]` is a scalar. Infinity or inexact if it exceeds any possible memory. */
export function sizeOfShape(shape: readonly number[]): number {
  return shape.reduce((product, side) => product * side, 1);
}

/**
 * Parses and validates the JSON header of an untrusted safetensors file: names are unique, dimensions are nonnegative integers, a tensor has as many bytes as
 * its dtype and shape require, and the tensors fill the file's `dataBytes` without gap or overlap, as the format requires. Throws BAD_FORMAT.
 */
export function parseHeader(json: Uint8Array, dataBytes: number, file: string): SafetensorsHeader {
  const header = parseJson(json, file);
  const { [METADATA_KEY]: metadata = {}, ...entries } = header;
  if (!isRecord(metadata) || !Object.values(metadata).every((value) => typeof value === "string")) {
    throw new NextvladError("BAD_FORMAT", `${METADATA_KEY} in the header is not a map of strings`, { file });
  }
  const tensors = new Map(Object.entries(entries).map(([name, entry]) => [name, checkEntry(name, entry, file)] as const));
  assertFilled(tensors, dataBytes, file);
  return { metadata: metadata as Record<string, string>, tensors };
}

function parseJson(json: Uint8Array, file: string): Record<string, unknown> {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(json);
    value = JSON.parse(text);
  } catch (error) {
    throw new NextvladError("BAD_FORMAT", "the header is not JSON, so this is no safetensors file, or a damaged one", { file }, error);
  }
  if (!isRecord(value)) throw new NextvladError("BAD_FORMAT", "the header is not a map of tensors", { file });
  const repeated = findRepeatedKey(text);
  if (repeated !== undefined) throw new NextvladError("BAD_FORMAT", "the header has the same name twice", { file, parameter: repeated });
  return value;
}

/** Returns the first key that occurs twice in one object of valid JSON; `JSON.parse` would silently use the last one. */
function findRepeatedKey(json: string): string | undefined {
  const open: Set<string>[] = [];
  const colon = /[ \t\r\n]*:/y;
  for (let at = 0; at < json.length; at++) {
    const char = json[at];
    if (char === "{") open.push(new Set());
    else if (char === "}") open.pop();
    else if (char === '"') {
      const end = endOfString(json, at);
      colon.lastIndex = end;
      if (colon.test(json)) {
        const key = JSON.parse(json.slice(at, end)) as string;
        const keys = open.at(-1);
        if (keys?.has(key)) return key;
        keys?.add(key);
      }
      at = end - 1;
    }
  }
  return undefined;
}

/** Returns the index after the closing quote of the JSON string that starts at `start`. */
function endOfString(json: string, start: number): number {
  let at = start + 1;
  while (json[at] !== '"') at += json[at] === "\\" ? 2 : 1;
  return at + 1;
}

function checkEntry(name: string, entry: unknown, file: string): TensorEntry {
  const refuse = (what: string, values: Pick<ErrorDetails, "expected" | "found"> = {}): NextvladError =>
    new NextvladError("BAD_FORMAT", what, { file, parameter: name, ...values });
  const { dtype, shape, data_offsets: offsets } = isRecord(entry) ? entry : {};
  if (!isDtype(dtype)) throw refuse("its dtype is not supported", { expected: Object.keys(ARRAYS).join(", "), found: showValue(dtype) });
  if (!isSizes(shape)) throw refuse("its shape is not a list of whole numbers", { found: showValue(shape) });
  if (!isSizes(offsets) || offsets.length !== 2) throw refuse("its data_offsets are not two whole numbers", { found: showValue(offsets) });
  const [begin, end] = offsets as [number, number];
  const bytes = sizeOfShape(shape) * sizeOfDtype(dtype);
  if (end - begin !== bytes) {
    throw refuse(`its data_offsets [${begin}, ${end}] do not fit ${dtype} ${showValue(shape)}`, {
      expected: `${bytes} bytes`,
      found: `${end - begin} bytes`,
    });
  }
  return { dtype, shape, begin, end };
}

/** Checks that the tensors, sorted by offset, are contiguous from the first byte to the last. Throws BAD_FORMAT. */
function assertFilled(tensors: ReadonlyMap<string, TensorEntry>, dataBytes: number, file: string): void {
  let filled = 0;
  for (const [name, { begin, end }] of [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end)) {
    if (begin !== filled) {
      throw new NextvladError("BAD_FORMAT", begin < filled ? "its bytes overlap another tensor's" : "there is a gap before its bytes", {
        file,
        parameter: name,
        expected: `begin ${filled}`,
        found: `begin ${begin}`,
      });
    }
    if (end > dataBytes) {
      throw new NextvladError("BAD_FORMAT", "its bytes reach past the end of the file", {
        file,
        parameter: name,
        expected: `at most ${dataBytes} bytes of data`,
        found: `end ${end}`,
        remedy: "the file is cut short: copy it again",
      });
    }
    filled = end;
  }
  if (filled !== dataBytes) {
    throw new NextvladError("BAD_FORMAT", "the file holds bytes that belong to no tensor", {
      file,
      expected: `${filled} bytes of data`,
      found: dataBytes,
    });
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isDtype(value: unknown): value is Dtype {
  return typeof value === "string" && Object.hasOwn(ARRAYS, value);
}

function isSizes(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((side) => Number.isSafeInteger(side) && side >= 0);
}
