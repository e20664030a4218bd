import type { FileHandle } from "node:fs/promises";
import { type ErrorDetails, fileError, NextvladError } from "../../base/errors.js";
import { openInput, readExactly } from "../../base/input.js";
import { countValues } from "../../base/numbers.js";
import { showValue } from "../../base/shown-value.js";

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

/** A tensor, row-major. */
export interface Tensor {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** `[product of shape]`, an array of the dtype. */
  readonly data: TensorData;
}

/** A tensor to write. If `data` is a function, it is called when the tensor is written, so that not all data need be in memory at once. */
export interface NamedTensor {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly data: TensorData | (() => TensorData);
}

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

const METADATA_KEY = "__metadata__";

/** Maximum length of a header, enough for some 100,000 tensors: a corrupt length or a bloated header must not exhaust the memory. */
const MAX_HEADER_BYTES = 10_000_000;
/** Size of the pieces that are written. */
const PIECE_BYTES = 1 << 26;

/** A safetensors file with a validated header, whose tensors are read on demand. Close it after use. */
export class SafetensorsFile implements SafetensorsHeader {
  readonly path: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly #handle: FileHandle;
  /** Offset of the data in the file, in bytes. */
  readonly #dataStart: number;

  private constructor(path: string, handle: FileHandle, dataStart: number, header: SafetensorsHeader) {
    this.path = path;
    this.metadata = header.metadata;
    this.tensors = header.tensors;
    this.#handle = handle;
    this.#dataStart = dataStart;
  }

  /** Opens a file and checks its header. Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT. */
  static async open(path: string): Promise<SafetensorsFile> {
    const handle = await openInput(path);
    try {
      const { size } = await handle.stat();
      const headerBytes = await readHeaderLength(handle, size, path);
      const dataStart = 8 + headerBytes;
      const json = new Uint8Array(headerBytes);
      await readExactly(handle, json, 8, path);
      const header = parseHeader(json, size - dataStart, path);
      return new SafetensorsFile(path, handle, dataStart, header);
    } catch (error) {
      await handle.close();
      throw fileError(error, path, "read");
    }
  }

  /** Reads one tensor directly into the memory that is returned. Throws BAD_FORMAT if there is no tensor of this name, FILE_UNREADABLE. */
  async read(name: string): Promise<Tensor> {
    const entry = this.tensors.get(name);
    if (entry === undefined) throw new NextvladError("BAD_FORMAT", "tensor not found", { file: this.path, parameter: name });
    const { dtype, shape, begin, end } = entry;
    const bytes = new Uint8Array(end - begin);
    await readExactly(this.#handle, bytes, this.#dataStart + begin, this.path);
    return { dtype, shape, data: new ARRAYS[dtype](bytes.buffer) };
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

/** Reads a whole safetensors file. Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT (with the tensor's name if a tensor is invalid). */
export async function readSafetensors(
  path: string,
): Promise<{ readonly metadata: Readonly<Record<string, string>>; readonly tensors: Map<string, Tensor> }> {
  const file = await SafetensorsFile.open(path);
  try {
    const tensors = new Map<string, Tensor>();
    for (const name of file.tensors.keys()) tensors.set(name, await file.read(name));
    return { metadata: file.metadata, tensors };
  } finally {
    await file.close();
  }
}

async function readHeaderLength(handle: FileHandle, fileBytes: number, file: string): Promise<number> {
  if (fileBytes < 8) {
    throw new NextvladError("BAD_FORMAT", "not a safetensors file: too short", {
      file,
      expected: "at least 8 bytes",
      found: fileBytes,
    });
  }
  const bytes = Buffer.alloc(8);
  await readExactly(handle, bytes, 0, file);
  const length = bytes.readBigUInt64LE();
  const max = Math.min(fileBytes - 8, MAX_HEADER_BYTES);
  if (length > max) {
    throw new NextvladError("BAD_FORMAT", "invalid header length: not a safetensors file, or truncated", {
      file,
      expected: `at most ${max} bytes`,
      found: String(length),
    });
  }
  return Number(length);
}

/**
 * Parses and validates the JSON header of an untrusted safetensors file: names are unique, dimensions are nonnegative integers, a tensor has as many bytes as
 * its dtype and shape require, and the tensors fill the file's `dataBytes` without gap or overlap, as the format requires. Throws BAD_FORMAT.
 */
function parseHeader(json: Uint8Array, dataBytes: number, file: string): SafetensorsHeader {
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
    throw new NextvladError("BAD_FORMAT", "the header is not JSON: not a safetensors file, or corrupt", { file }, error);
  }
  if (!isRecord(value)) throw new NextvladError("BAD_FORMAT", "the header is not a map of tensors", { file });
  const repeated = findRepeatedKey(text);
  if (repeated !== undefined) throw new NextvladError("BAD_FORMAT", "duplicate name in the header", { file, parameter: repeated });
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
  const invalid = (what: string, values: Pick<ErrorDetails, "expected" | "found"> = {}): NextvladError =>
    new NextvladError("BAD_FORMAT", what, { file, parameter: name, ...values });
  const { dtype, shape, data_offsets: offsets } = isRecord(entry) ? entry : {};
  if (!isDtype(dtype)) throw invalid("unsupported dtype", { expected: Object.keys(ARRAYS).join(", "), found: showValue(dtype) });
  if (!isSizeList(shape)) throw invalid("the shape is not a list of nonnegative integers", { found: showValue(shape) });
  if (!isSizeList(offsets) || offsets.length !== 2)
    throw invalid("data_offsets are not two nonnegative integers", { found: showValue(offsets) });
  const [begin, end] = offsets as [number, number];
  const bytes = countValues(shape) * sizeOfDtype(dtype);
  if (end - begin !== bytes) {
    throw invalid(`data_offsets [${begin}, ${end}] do not match ${dtype} ${showValue(shape)}`, {
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
      throw new NextvladError("BAD_FORMAT", begin < filled ? "the data overlap another tensor" : "there is a gap before the data", {
        file,
        parameter: name,
        expected: `begin ${filled}`,
        found: `begin ${begin}`,
      });
    }
    if (end > dataBytes) {
      throw new NextvladError("BAD_FORMAT", "the data extend past the end of the file", {
        file,
        parameter: name,
        expected: `at most ${dataBytes} bytes of data`,
        found: `end ${end}`,
        remedy: "the file is truncated: copy it again",
      });
    }
    filled = end;
  }
  if (filled !== dataBytes) {
    throw new NextvladError("BAD_FORMAT", "the file has bytes that belong to no tensor", {
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

function isSizeList(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

/**
 * Encodes tensors as a safetensors file (huggingface/safetensors, "Format"): header length as uint64, JSON header padded with spaces to a multiple of 8 bytes,
 * data. Tensors with wider values come first so that each is aligned, otherwise in the given order. The pieces are views of the tensors' memory. Throws
 * BAD_FORMAT if a name occurs twice or if data do not fit their dtype and shape.
 */
export function* encodeSafetensors(tensors: Iterable<NamedTensor>, metadata: Readonly<Record<string, string>> = {}): Generator<Uint8Array> {
  const ordered = [...tensors].sort((a, b) => sizeOfDtype(b.dtype) - sizeOfDtype(a.dtype));
  yield encodeHeader(ordered, metadata);
  for (const { name, dtype, shape, data: given } of ordered) {
    const data = typeof given === "function" ? given() : given;
    if (!(data instanceof ARRAYS[dtype]) || data.length !== countValues(shape)) {
      throw new NextvladError("BAD_FORMAT", "the data do not match the dtype and shape", {
        parameter: name,
        expected: `${dtype} [${shape.join(", ")}]`,
        found: `${data.constructor.name} of ${data.length}`,
      });
    }
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield bytes.subarray(at, at + PIECE_BYTES);
  }
}

function encodeHeader(tensors: readonly NamedTensor[], metadata: Readonly<Record<string, string>>): Uint8Array {
  const entries = new Map<string, unknown>();
  if (Object.keys(metadata).length > 0) entries.set(METADATA_KEY, metadata);
  let end = 0;
  for (const { name, dtype, shape } of tensors) {
    if (entries.has(name) || name === METADATA_KEY) {
      throw new NextvladError("BAD_FORMAT", "duplicate tensor name", { parameter: name });
    }
    const begin = end;
    end += countValues(shape) * sizeOfDtype(dtype);
    entries.set(name, { dtype, shape, data_offsets: [begin, end] });
  }
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)), "utf8");
  const paddedBytes = Math.ceil(json.length / 8) * 8;
  const header = Buffer.alloc(8 + paddedBytes, " ");
  header.writeBigUInt64LE(BigInt(paddedBytes));
  json.copy(header, 8);
  return header;
}

/** Bytes of one value. */
function sizeOfDtype(dtype: Dtype): number {
  return ARRAYS[dtype].BYTES_PER_ELEMENT;
}
