import { NextvladError } from "../../base/errors.js";
import { countValues } from "../../base/numbers.js";
import { LENGTH_DELIMITED, ProtobufReader, tagOf, VARINT } from "../protobuf/reader.js";
import { concat, varintField } from "../protobuf/writer.js";

/** Paddle's VarType.Type (framework.proto), with numpy's names and the bytes per value. */
const TYPES: ReadonlyMap<number, { readonly dtype: string; readonly itemBytes: number }> = new Map([
  [0, { dtype: "b1", itemBytes: 1 }],
  [1, { dtype: "i2", itemBytes: 2 }],
  [2, { dtype: "i4", itemBytes: 4 }],
  [3, { dtype: "i8", itemBytes: 8 }],
  [4, { dtype: "f2", itemBytes: 2 }],
  [5, { dtype: "f4", itemBytes: 4 }],
  [6, { dtype: "f8", itemBytes: 8 }],
  [20, { dtype: "u1", itemBytes: 1 }],
  [21, { dtype: "i1", itemBytes: 1 }],
  [22, { dtype: "bf16", itemBytes: 2 }],
]);

/** Bytes to read from a file for its header, which takes 16 bytes and a few per dimension. LoD levels, which weights do not have, may take more. */
export const VARIABLE_HEAD_BYTES = 1 << 12;
const MAX_DESCRIPTOR_BYTES = 1 << 10;
const MAX_DIMENSIONS = 32;

/** The header of a variable's file. */
export interface PaddleVariableHeader {
  readonly dtype: string;
  /** `[]` is a scalar. */
  readonly shape: readonly number[];
  /** Offset of the data, which extend to the file's end, row-major, little-endian. */
  readonly dataOffset: number;
}

/** Whether a file may be a Paddle variable, by its first bytes: both versions and the number of LoD levels are 0, and a descriptor follows. */
export function looksLikePaddleVariable(head: Uint8Array): boolean {
  if (head.length < 22) return false;
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  const descriptorBytes = view.getInt32(16, true);
  const zeros = head.subarray(0, 16).every((byte) => byte === 0);
  return zeros && descriptorBytes >= 2 && descriptorBytes <= MAX_DESCRIPTOR_BYTES && head[20] === tagOf(1, VARINT);
}

/**
 * Parses the header of a variable as Paddle's save_vars writes it into a file of its own (paddle/fluid/framework/lod_tensor.cc, SerializeToStream, version 0),
 * and checks that the file has exactly the length that the header implies. Layout:
 * uint32 version 0; uint64 number of LoD levels, each a uint64 length in bytes and that many bytes; uint32 tensor version 0;
 * int32 length of a TensorDesc; the TensorDesc (1: data type, 2: repeated dimensions, packed or not); the data, up to the file's end.
 * `head` is the file's first VARIABLE_HEAD_BYTES, or all of a shorter file. Throws BAD_FORMAT.
 */
export function parseVariableHeader(head: Uint8Array, sizeBytes: number, file: string): PaddleVariableHeader {
  const cursor = new HeaderCursor(head, sizeBytes, file);
  cursor.version("LoDTensor");
  const levels = cursor.uint64();
  if (levels > 16) throw cursor.error(`${levels} LoD levels (weights have none)`);
  for (let level = 0; level < levels; level++) cursor.skip(cursor.uint64());
  cursor.version("Tensor");
  const descriptorBytes = cursor.uint32();
  if (descriptorBytes > MAX_DESCRIPTOR_BYTES) throw cursor.error(`a descriptor of ${descriptorBytes} bytes is too long`);
  const descriptor = cursor.take(descriptorBytes);
  const { type, shape } = parseDescriptor(descriptor, cursor);
  const known = TYPES.get(type);
  if (known === undefined) throw cursor.error(`unsupported data type ${type}`);
  if (shape.length > MAX_DIMENSIONS || shape.some((size) => size < 0)) throw cursor.error(`invalid shape [${shape.join(", ")}]`);
  const dataBytes = countValues(shape) * known.itemBytes;
  if (dataBytes !== sizeBytes - cursor.pos) {
    throw new NextvladError("BAD_FORMAT", `wrong data length for ${known.dtype} [${shape.join(", ")}]`, {
      file,
      byteOffset: cursor.pos,
      expected: `${dataBytes} bytes of data`,
      found: sizeBytes - cursor.pos,
      remedy: "download or copy the file again",
    });
  }
  return { dtype: known.dtype, shape, dataOffset: cursor.pos };
}

function parseDescriptor(bytes: Uint8Array, cursor: HeaderCursor): { readonly type: number; readonly shape: readonly number[] } {
  const reader = new ProtobufReader(bytes, { file: "", record: 0, byteOffset: 0 });
  let type = -1;
  const shape: number[] = [];
  try {
    while (reader.pos < bytes.length) {
      const tag = reader.varint32(bytes.length);
      if (tag === tagOf(1, VARINT)) type = reader.varint32(bytes.length);
      else if (tag === tagOf(2, VARINT)) shape.push(reader.int64(bytes.length));
      else if (tag === tagOf(2, LENGTH_DELIMITED)) {
        const end = reader.lengthEnd(bytes.length);
        while (reader.pos < end) shape.push(reader.int64(end));
      } else reader.skip(tag, bytes.length);
    }
  } catch (error) {
    // The reader's messages are about shards.
    throw cursor.error("invalid descriptor", error);
  }
  return { type, shape };
}

/** Reads little-endian integers with bounds checks. */
class HeaderCursor {
  pos = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #sizeBytes: number;
  readonly #file: string;

  constructor(bytes: Uint8Array, sizeBytes: number, file: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#sizeBytes = sizeBytes;
    this.#file = file;
  }

  uint32(): number {
    const at = this.pos;
    this.take(4);
    return this.#view.getUint32(at, true);
  }

  uint64(): number {
    const low = this.uint32();
    return this.uint32() * 2 ** 32 + low;
  }

  version(what: string): void {
    const version = this.uint32();
    if (version !== 0) throw this.error(`unsupported ${what} version ${version} (expected 0), so this may not be a Paddle variable`);
  }

  skip(length: number): void {
    if (length > this.#sizeBytes - this.pos) throw this.error(`expected ${length} more bytes, found ${this.#sizeBytes - this.pos}`);
    if (length > this.#bytes.length - this.pos) throw this.error("the LoD levels are too long");
    this.pos += length;
  }

  take(length: number): Uint8Array {
    const at = this.pos;
    this.skip(length);
    return this.#bytes.subarray(at, this.pos);
  }

  error(what: string, cause?: unknown): NextvladError {
    const details = { file: this.#file, byteOffset: this.pos, remedy: "download or copy the file again" };
    return new NextvladError("BAD_FORMAT", `invalid Paddle variable: ${what}`, details, cause);
  }
}

/** An array that can be written as a Paddle variable, row-major. */
export interface PaddleVariable {
  readonly shape: readonly number[];
  /** `[product of shape]`. */
  readonly data: Float32Array | BigInt64Array;
}

// The types that are written.
const FP32 = 5;
const INT64 = 3;

/**
 * Encodes a variable as Paddle's save_vars writes it into a file of its own (framework/lod_tensor.cc, SerializeToStream, version 0): no LoD levels, a
 * TensorDesc, the values. All little-endian, without padding. The values are a view of the array's memory. Throws BAD_FORMAT if the data do not fit the shape.
 */
export function encodePaddleVariable({ shape, data }: PaddleVariable): readonly Uint8Array[] {
  const size = countValues(shape);
  if (data.length !== size) {
    const expected = `${size} values for [${shape.join(", ")}]`;
    throw new NextvladError("BAD_FORMAT", "the variable's data do not match its shape", { expected, found: data.length });
  }
  const type = data instanceof Float32Array ? FP32 : INT64;
  const descriptor = concat([varintField(1, type), ...shape.map((size) => varintField(2, size))]);
  // uint32 LoDTensor version, uint64 LoD levels, uint32 Tensor version: all zero; then the descriptor's length.
  const head = Buffer.alloc(20);
  head.writeInt32LE(descriptor.size, 16);
  return [Buffer.concat([head, ...descriptor.pieces]), new Uint8Array(data.buffer, data.byteOffset, data.byteLength)];
}
