import { NextvladError } from "../base/errors.js";
import { type NumpyData, numpyDescr } from "./numpy-dtype.js";
import { CHUNK_BYTES, latin1TextBytes, PickleBuffer } from "./pickle-buffer.js";

/**
 * What can be pickled, by its Python type: number is `float` (always, even 1), bigint `int`, string `str`, null `None`; `Tuple` is a tuple,
 * `Bytes` bytes, `NumpyArray` an ndarray, a Map a dict; a float array is a list of floats, an int array a list of ints, any other iterable a list.
 */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Tuple
  | Bytes
  | NumpyArray
  | ReadonlyMap<PickleValue, PickleValue>
  | FloatArray
  | IntArray
  | Iterable<PickleValue>;

type FloatArray = Float32Array | Float64Array;
type IntArray = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | BigInt64Array | BigUint64Array;

/** A Python tuple. */
export class Tuple {
  readonly items: readonly PickleValue[];

  constructor(...items: readonly PickleValue[]) {
    this.items = items;
  }
}

/** Python bytes (Python 2: a str). Not copied: they must not change until they are written. */
export class Bytes {
  readonly value: Uint8Array;

  constructor(value: Uint8Array) {
    this.value = value;
  }
}

/** A numpy array in row-major order, `data` `[product of shape]`. Not copied: it must not change until it is written. */
export class NumpyArray {
  readonly shape: readonly number[];
  readonly data: NumpyData;

  constructor(shape: readonly number[], data: NumpyData) {
    this.shape = shape;
    this.data = data;
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
const EMPTY_DICT = 0x7d;
const SETITEMS = 0x75;
const TUPLE = 0x74;
const GLOBAL = 0x63;
const REDUCE = 0x52;
const BUILD = 0x62;

/** CPython fills a list or dict in batches of this many, to bound the reader's stack. */
const BATCH = 1000;

type Source<T> = Iterable<T> | AsyncIterable<T>;

/**
 * Pickles a list, protocol 2 (every Python since 2.3 loads it), item after item: only the item at hand is in memory. The chunks are the
 * consumer's to keep. Throws BAD_FORMAT for what Python has no form of: half a surrogate pair, or a string or an int too long for its length
 * field, or an array whose data do not fit its shape.
 */
export function encodePickledList(items: Source<PickleValue>): AsyncGenerator<Uint8Array> {
  return encodeCollection(items, EMPTY_LIST, APPENDS, encode);
}

/** The same of a dict, entry after entry, in the order given. An entry is done with before the next is asked for, so both may use the same memory. */
export function encodePickledDict(entries: Source<readonly [PickleValue, PickleValue]>): AsyncGenerator<Uint8Array> {
  return encodeCollection(entries, EMPTY_DICT, SETITEMS, encodeEntry);
}

async function* encodeCollection<T>(
  items: Source<T>,
  opening: number,
  closing: number,
  encodeItem: (item: T, out: PickleBuffer) => void,
): AsyncGenerator<Uint8Array> {
  const out = new PickleBuffer();
  for (const byte of [...PROTO_2, opening, MARK]) out.byte(byte);
  let index = 0;
  for await (const item of items) {
    startItem(index++, closing, out);
    encodeItem(item, out);
    if (out.length >= CHUNK_BYTES) yield* out.take();
  }
  out.byte(closing);
  out.byte(STOP);
  yield* out.take();
}

function encode(value: PickleValue, out: PickleBuffer): void {
  if (value === null) out.byte(NONE);
  else if (typeof value === "boolean") out.byte(value ? NEWTRUE : NEWFALSE);
  else if (typeof value === "number") encodeFloat(value, out);
  else if (typeof value === "bigint") encodeInt(value, out);
  else if (typeof value === "string") encodeString(value, out);
  else if (value instanceof Tuple) encodeTuple(value.items, out);
  else if (value instanceof Bytes) encodeBytes(value.value, out);
  else if (value instanceof NumpyArray) encodeArray(value, out);
  else if (value instanceof Map) fill<readonly [PickleValue, PickleValue]>(value, EMPTY_DICT, SETITEMS, encodeEntry, out);
  else if (value instanceof Float32Array || value instanceof Float64Array) fill(value, EMPTY_LIST, APPENDS, encodeFloat, out);
  else if (ArrayBuffer.isView(value)) fill<number | bigint>(value as IntArray, EMPTY_LIST, APPENDS, encodeInt, out);
  else fill(value as Iterable<PickleValue>, EMPTY_LIST, APPENDS, encode, out);
}

function fill<T>(
  items: Iterable<T>,
  opening: number,
  closing: number,
  encodeItem: (item: T, out: PickleBuffer) => void,
  out: PickleBuffer,
): void {
  out.byte(opening);
  out.byte(MARK);
  let index = 0;
  for (const item of items) {
    startItem(index++, closing, out);
    encodeItem(item, out);
  }
  out.byte(closing);
}

/** Between two batches, closes the one and opens the next. */
function startItem(index: number, closing: number, out: PickleBuffer): void {
  if (index === 0 || index % BATCH !== 0) return;
  out.byte(closing);
  out.byte(MARK);
}

function encodeEntry([key, value]: readonly [PickleValue, PickleValue], out: PickleBuffer): void {
  encode(key, out);
  encode(value, out);
}

function encodeTuple(items: readonly PickleValue[], out: PickleBuffer): void {
  out.byte(MARK);
  for (const item of items) encode(item, out);
  out.byte(TUPLE);
}

function encodeFloat(value: number, out: PickleBuffer): void {
  out.byte(BINFLOAT);
  out.float64(value);
}

/** A whole number in the shortest form; what an int32 cannot hold goes out as LONG1, two's complement. */
function encodeInt(value: number | bigint, out: PickleBuffer): void {
  if (value >= 0 && value < 1 << 8) {
    out.byte(BININT1);
    out.byte(Number(value));
  } else if (value >= 0 && value < 1 << 16) {
    out.byte(BININT2);
    out.uint16(Number(value));
  } else if (value >= -(2 ** 31) && value < 2 ** 31) {
    out.byte(BININT);
    out.int32(Number(value));
  } else {
    encodeLong(BigInt(value), out);
  }
}

function encodeLong(value: bigint, out: PickleBuffer): void {
  let bytes = 5;
  while (BigInt.asIntN(8 * bytes, value) !== value) bytes++;
  if (bytes > 255) throw new NextvladError("BAD_FORMAT", "an int is too long to pickle", { expected: "at most 255 bytes", found: bytes });
  out.byte(LONG1);
  out.byte(bytes);
  for (let rest = value, i = 0; i < bytes; i++, rest >>= 8n) out.byte(Number(rest & 0xffn));
}

function encodeString(text: string, out: PickleBuffer): void {
  if (/\p{Surrogate}/u.test(text)) {
    throw new NextvladError(
      "BAD_FORMAT",
      `${JSON.stringify(text)} holds half a surrogate pair, which is no character and has no UTF-8 form`,
    );
  }
  const bytes = Buffer.from(text, "utf8");
  out.byte(BINUNICODE);
  out.int32(bytes.length);
  out.copy(bytes);
}

function encodeGlobal(module: string, name: string, out: PickleBuffer): void {
  out.byte(GLOBAL);
  out.copy(Buffer.from(`${module}\n${name}\n`, "latin1"));
}

/**
 * Bytes as CPython 3 writes them in protocol 2: `_codecs.encode(text, 'latin1')`, at up to twice the size. Only this form loads on Python 2 and 3,
 * with and without an `encoding`: the raw byte strings of Python 2 fail a bare `pickle.load` of Python 3, which is how fluid.load first read .pdparams,
 * and Python 2.7, on which fluid 1.8 ran too, has none of the bytes opcodes of protocol 3 and later.
 */
function encodeBytes(bytes: Uint8Array, out: PickleBuffer): void {
  const size = latin1TextBytes(bytes);
  if (size >= 2 ** 32) {
    throw new NextvladError("BAD_FORMAT", "the bytes are too many to pickle", { expected: "less than 4 GiB of UTF-8", found: size });
  }
  encodeGlobal("_codecs", "encode", out);
  out.byte(MARK);
  out.byte(BINUNICODE);
  out.int32(size);
  out.latin1Text(bytes);
  encodeString("latin1", out);
  out.byte(TUPLE);
  out.byte(REDUCE);
}

/** An array as numpy pickles it: an empty one is made, then given its state. numpy 2 still knows the module by this name, numpy 1 by no other. */
function encodeArray({ shape, data }: NumpyArray, out: PickleBuffer): void {
  const descr = numpyDescr(shape, data);
  encodeGlobal("numpy.core.multiarray", "_reconstruct", out);
  out.byte(MARK);
  encodeGlobal("numpy", "ndarray", out);
  encodeTuple([0n], out);
  encodeBytes(Buffer.from("b"), out);
  out.byte(TUPLE);
  out.byte(REDUCE);
  out.byte(MARK);
  encodeInt(1, out);
  encodeTuple(shape.map(BigInt), out);
  encodeDtype(descr, out);
  out.byte(NEWFALSE);
  encodeBytes(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), out);
  out.byte(TUPLE);
  out.byte(BUILD);
}

/** `descr` is byte order, kind and size: `<f4`. */
function encodeDtype(descr: string, out: PickleBuffer): void {
  encodeGlobal("numpy", "dtype", out);
  encodeTuple([descr.slice(1), false, true], out);
  out.byte(REDUCE);
  encodeTuple([3n, descr.slice(0, 1), null, null, null, -1n, -1n, 0n], out);
  out.byte(BUILD);
}
