import type { FileHandle } from "node:fs/promises";
import { fileError, NextvladError } from "../base/errors.js";
import { openInput } from "../base/input.js";
import {
  arrayOver,
  type Dtype,
  isArrayOf,
  METADATA_KEY,
  parseHeader,
  type SafetensorsHeader,
  sizeOfDtype,
  sizeOfShape,
  type TensorData,
  type TensorEntry,
} from "./safetensors-header.js";

export type { Dtype, TensorData } from "./safetensors-header.js";

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

/** Maximum length of a header, enough for some 100,000 tensors: a corrupt length or a bloated header must not exhaust the memory. */
const MAX_HEADER_BYTES = 10_000_000;
/** Files are read and written in pieces below the system calls' limit of 2 GiB. */
const PIECE_BYTES = 1 << 26;

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
    if (!isArrayOf(dtype, data) || data.length !== sizeOfShape(shape)) {
      throw new NextvladError("BAD_FORMAT", "its data do not fit its dtype and shape", {
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
      throw new NextvladError("BAD_FORMAT", "a safetensors file cannot hold another tensor of this name", { parameter: name });
    }
    const begin = end;
    end += sizeOfShape(shape) * sizeOfDtype(dtype);
    entries.set(name, { dtype, shape, data_offsets: [begin, end] });
  }
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)), "utf8");
  const paddedBytes = Math.ceil(json.length / 8) * 8;
  const header = Buffer.alloc(8 + paddedBytes, " ");
  header.writeBigUInt64LE(BigInt(paddedBytes));
  json.copy(header, 8);
  return header;
}

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
      const header = parseHeader(await readRange(handle, 8, headerBytes, path), size - dataStart, path);
      return new SafetensorsFile(path, handle, dataStart, header);
    } catch (error) {
      await handle.close();
      throw fileError(error, path, "read");
    }
  }

  /** Reads one tensor directly into the memory that is returned. Throws BAD_FORMAT if there is no tensor of this name, FILE_UNREADABLE. */
  async read(name: string): Promise<Tensor> {
    const entry = this.tensors.get(name);
    if (entry === undefined) throw new NextvladError("BAD_FORMAT", "the file has no such tensor", { file: this.path, parameter: name });
    const { dtype, shape, begin, end } = entry;
    try {
      const bytes = await readRange(this.#handle, this.#dataStart + begin, end - begin, this.path);
      return { dtype, shape, data: arrayOver(dtype, bytes.buffer) };
    } catch (error) {
      throw fileError(error, this.path, "read");
    }
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
    throw new NextvladError("BAD_FORMAT", "the file is too short for safetensors", {
      file,
      expected: "at least 8 bytes",
      found: fileBytes,
    });
  }
  const length = new DataView((await readRange(handle, 0, 8, file)).buffer).getBigUint64(0, true);
  const most = Math.min(fileBytes - 8, MAX_HEADER_BYTES);
  if (length > most) {
    throw new NextvladError("BAD_FORMAT", "the header's length cannot be true, so this is no safetensors file, or one cut short", {
      file,
      expected: `at most ${most} bytes`,
      found: String(length),
    });
  }
  return Number(length);
}

/** Reads bytes into new memory, which is aligned for any type of array. */
async function readRange(handle: FileHandle, start: number, length: number, file: string): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const { bytesRead } = await handle.read(bytes, done, Math.min(length - done, PIECE_BYTES), start + done);
    if (bytesRead === 0) {
      throw new NextvladError("BAD_FORMAT", "the file became shorter while it was read", { file, byteOffset: start + done });
    }
    done += bytesRead;
  }
  return bytes;
}
