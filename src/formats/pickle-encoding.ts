import { NextvladError } from "../base/errors.js";
import type { ByteBuffer } from "./byte-buffer.js";
import { encodeLatin1, latin1TextBytes } from "./latin1-text.js";
import { Built, ByteString, Bytes, Global, type PickleValue, Tuple } from "./picklable.js";

// Opcodes of protocol 2, as CPython's pickletools names them.
export const MARK = 0x28;
const NONE = 0x4e;
const NEWTRUE = 0x88;
const NEWFALSE = 0x89;
const BININT1 = 0x4b;
const BININT2 = 0x4d;
const BININT = 0x4a;
const LONG1 = 0x8a;
const BINFLOAT = 0x47;
const BINUNICODE = 0x58;
export const EMPTY_LIST = 0x5d;
export const APPENDS = 0x65;
const TUPLE = 0x74;
export const EMPTY_DICT = 0x7d;
const SETITEMS = 0x75;
const SHORT_BINSTRING = 0x55;
const BINSTRING = 0x54;
const GLOBAL = 0x63;
const REDUCE = 0x52;
const BUILD = 0x62;

const CODECS_ENCODE = new Global("_codecs", "encode");

/** CPython appends to a list in batches of this size, to bound the reader's stack. */
const APPENDS_BATCH = 1000;

/** Appends the pickle of a value, protocol 2, without PROTO and STOP. Throws BAD_FORMAT for values that cannot be pickled (see `PickledListEncoder`). */
export function encode(value: PickleValue, out: ByteBuffer): void {
  if (value === null) out.byte(NONE);
  else if (typeof value === "boolean") out.byte(value ? NEWTRUE : NEWFALSE);
  else if (typeof value === "number") encodeFloat(value, out);
  else if (typeof value === "bigint") encodeInt(value, out);
  else if (typeof value === "string") encodeString(value, out);
  else if (value instanceof Tuple) encodeTuple(value, out);
  else if (value instanceof ByteString) encodeByteString(value, out);
  else if (value instanceof Bytes) encodeBytes(value, out);
  else if (value instanceof Global) encodeGlobal(value, out);
  else if (value instanceof Built) encodeBuilt(value, out);
  else if (isMap(value)) encodeDict(value, out);
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

/** At a batch boundary of a list, appends the current batch and starts the next one. */
export function startItem(index: number, out: ByteBuffer): void {
  if (index === 0 || index % APPENDS_BATCH !== 0) return;
  out.byte(APPENDS);
  out.byte(MARK);
}

function encodeTuple(tuple: Tuple, out: ByteBuffer): void {
  out.byte(MARK);
  for (const item of tuple.items) encode(item, out);
  out.byte(TUPLE);
}

function isMap(value: object): value is ReadonlyMap<PickleValue, PickleValue> {
  return value instanceof Map;
}

/** Writes all entries in one batch. */
function encodeDict(entries: ReadonlyMap<PickleValue, PickleValue>, out: ByteBuffer): void {
  out.byte(EMPTY_DICT);
  out.byte(MARK);
  for (const [key, value] of entries) {
    encode(key, out);
    encode(value, out);
  }
  out.byte(SETITEMS);
}

function encodeByteString({ bytes }: ByteString, out: ByteBuffer): void {
  if (bytes.length < 1 << 8) {
    const at = out.reserve(2);
    out.view.setUint8(at, SHORT_BINSTRING);
    out.view.setUint8(at + 1, bytes.length);
  } else {
    if (bytes.length >= 2 ** 31) {
      throw new NextvladError("BAD_FORMAT", "bytes are too many to pickle", { expected: "less than 2 GiB", found: bytes.length });
    }
    const at = out.reserve(5);
    out.view.setUint8(at, BINSTRING);
    out.view.setInt32(at + 1, bytes.length, true);
  }
  out.append(bytes);
}

/**
 * Encodes bytes as CPython 3 does in protocol 2: `_codecs.encode(text, 'latin1')`. Only this form loads on Python 2 and 3, with and without an `encoding`: the
 * byte strings of Python 2 fail with a bare `pickle.load` of Python 3, which the first versions of fluid.load used for .pdparams, and Python 2.7, on which
 * fluid 1.8 also ran, lacks the bytes opcodes of protocol 3 and later.
 */
function encodeBytes({ bytes }: Bytes, out: ByteBuffer): void {
  const size = latin1TextBytes(bytes);
  if (size >= 2 ** 32) {
    throw new NextvladError("BAD_FORMAT", "bytes are too many to pickle", { expected: "less than 4 GiB of UTF-8", found: size });
  }
  encodeGlobal(CODECS_ENCODE, out);
  out.byte(MARK);
  const at = out.reserve(5);
  out.view.setUint8(at, BINUNICODE);
  out.view.setUint32(at + 1, size, true);
  out.appendLater(encodeLatin1(bytes), size);
  encodeString("latin1", out);
  out.byte(TUPLE);
  out.byte(REDUCE);
}

function encodeGlobal({ module, name }: Global, out: ByteBuffer): void {
  out.byte(GLOBAL);
  out.append(Buffer.from(`${module}\n${name}\n`, "ascii"));
}

function encodeBuilt({ callable, args, state }: Built, out: ByteBuffer): void {
  encodeGlobal(callable, out);
  encodeTuple(args, out);
  out.byte(REDUCE);
  encode(state, out);
  out.byte(BUILD);
}

function encodeFloat(value: number, out: ByteBuffer): void {
  const at = out.reserve(9);
  out.view.setUint8(at, BINFLOAT);
  out.view.setFloat64(at + 1, value);
}

/** Encodes an integer in the shortest form; values that do not fit an int32 are written as LONG1, two's complement. */
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
  const at = out.reserve(5);
  out.view.setUint8(at, BINUNICODE);
  out.view.setUint32(at + 1, bytes.length, true);
  out.append(bytes);
}
