import { NextvladError } from "../base/errors.js";

/**
 * What can be pickled, by its Python type: number is `float` (always, even 1), bigint `int`, string `str`, null `None`; `Tuple` is a tuple;
 * a float array is a list of floats, an int array a list of ints, any other iterable a list.
 */
export type PickleValue = null | boolean | number | bigint | string | Tuple | FloatArray | IntArray | Iterable<PickleValue>;

type FloatArray = Float32Array | Float64Array;
type IntArray = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | BigInt64Array | BigUint64Array;

/** A Python tuple. */
export class Tuple {
  readonly items: readonly PickleValue[];

  constructor(...items: readonly PickleValue[]) {
    this.items = items;
  }
}

// Opcodes of protocol 2, as CPython's pickletools names them.
const PROTO_2 = [0x80, 0x02];
const STOP = 0x2e;
const MARK = 0x28;
const NONE = 0x4e;
const NEWTRUE = 0x88;
const NEWFALSE = 0x89;
const BININT1 = 0x4b;
const BININT2 = 0x4d;
const BININT = 0x4a;
const LONG1 = 0x8a;
const BINFLOAT = 0x47;
const BINUNICODE = 0x58;
const EMPTY_LIST = 0x5d;
const APPENDS = 0x65;
const TUPLE = 0x74;

/** CPython appends to a list in batches of this many, to bound the reader's stack. */
const APPENDS_BATCH = 1000;
const CHUNK_BYTES = 1 << 16;

/**
 * Pickles a list, protocol 2 (every Python since 2.3 loads it), item after item: only the item at hand is in memory. The chunks are the
 * consumer's to keep. Throws BAD_FORMAT for what Python has no form of: half a surrogate pair, or a string or an int too long for its length field.
 */
export async function* encodePickledList(items: Iterable<PickleValue> | AsyncIterable<PickleValue>): AsyncGenerator<Uint8Array> {
  const out = new ByteBuffer();
  for (const byte of [...PROTO_2, EMPTY_LIST, MARK]) out.byte(byte);
  let index = 0;
  for await (const item of items) {
    startItem(index++, out);
    encode(item, out);
    if (out.length >= CHUNK_BYTES) yield out.take();
  }
  out.byte(APPENDS);
  out.byte(STOP);
  yield out.take();
}

function encode(value: PickleValue, out: ByteBuffer): void {
  if (value === null) out.byte(NONE);
  else if (typeof value === "boolean") out.byte(value ? NEWTRUE : NEWFALSE);
  else if (typeof value === "number") encodeFloat(value, out);
  else if (typeof value === "bigint") encodeInt(value, out);
  else if (typeof value === "string") encodeString(value, out);
  else if (value instanceof Tuple) encodeTuple(value, out);
  else if (value instanceof Float32Array || value instanceof Float64Array) encodeList(value, encodeFloat, out);
  else if (ArrayBuffer.isView(value)) encodeList<number | bigint>(value, encodeInt, out);
  else encodeList(value, encode, out);
}

function encodeList<T>(items: Iterable<T>, encodeItem: (item: T, out: ByteBuffer) => void, out: ByteBuffer): void {
  out.byte(EMPTY_LIST);
  out.byte(MARK);
  let index = 0;
  for (const item of items) {
    startItem(index++, out);
    encodeItem(item, out);
  }
  out.byte(APPENDS);
}

/** Between two batches of a list, appends the one and opens the next. */
function startItem(index: number, out: ByteBuffer): void {
  if (index === 0 || index % APPENDS_BATCH !== 0) return;
  out.byte(APPENDS);
  out.byte(MARK);
}

function encodeTuple(tuple: Tuple, out: ByteBuffer): void {
  out.byte(MARK);
  for (const item of tuple.items) encode(item, out);
  out.byte(TUPLE);
}

function encodeFloat(value: number, out: ByteBuffer): void {
  const at = out.reserve(9);
  out.view.setUint8(at, BINFLOAT);
  out.view.setFloat64(at + 1, value);
}

/** A whole number in the shortest form; what an int32 cannot hold goes out as LONG1, two's complement. */
function encodeInt(value: number | bigint, out: ByteBuffer): void {
  if (value >= 0 && value < 1 << 8) {
    out.byte(BININT1);
    out.byte(Number(value));
  } else if (value >= 0 && value < 1 << 16) {
    const at = out.reserve(3);
    out.view.setUint8(at, BININT2);
    out.view.setUint16(at + 1, Number(value), true);
  } else if (value >= -(2 ** 31) && value < 2 ** 31) {
    const at = out.reserve(5);
    out.view.setUint8(at, BININT);
    out.view.setInt32(at + 1, Number(value), true);
  } else {
    encodeLong(BigInt(value), out);
  }
}

function encodeLong(value: bigint, out: ByteBuffer): void {
  let bytes = 5;
  while (BigInt.asIntN(8 * bytes, value) !== value) bytes++;
  if (bytes > 255) throw new NextvladError("BAD_FORMAT", "an int is too long to pickle", { expected: "at most 255 bytes", found: bytes });
  out.byte(LONG1);
  out.byte(bytes);
  for (let rest = value, i = 0; i < bytes; i++, rest >>= 8n) out.byte(Number(rest & 0xffn));
}

function encodeString(text: string, out: ByteBuffer): void {
  if (/\p{Surrogate}/u.test(text)) {
    throw new NextvladError(
      "BAD_FORMAT",
      `${JSON.stringify(text)} holds half a surrogate pair, which is no character and has no UTF-8 form`,
    );
  }
  const bytes = Buffer.from(text, "utf8");
  const at = out.reserve(5 + bytes.length);
  out.view.setUint8(at, BINUNICODE);
  out.view.setUint32(at + 1, bytes.length, true);
  out.bytes.set(bytes, at + 5);
}

/** Bytes that grow at their end until they are taken away. */
class ByteBuffer {
  bytes = new Uint8Array(2 * CHUNK_BYTES);
  view = new DataView(this.bytes.buffer);
  length = 0;

  byte(value: number): void {
    this.bytes[this.reserve(1)] = value;
  }

  /** Makes room for some more bytes and returns where they start. */
  reserve(size: number): number {
    const at = this.length;
    this.length += size;
    if (this.length > this.bytes.length) {
      const larger = new Uint8Array(Math.max(2 * this.bytes.length, this.length));
      larger.set(this.bytes.subarray(0, at));
      this.bytes = larger;
      this.view = new DataView(larger.buffer);
    }
    return at;
  }

  /** A copy of the bytes so far, which are then forgotten. */
  take(): Uint8Array {
    const taken = this.bytes.slice(0, this.length);
    this.length = 0;
    return taken;
  }
}
