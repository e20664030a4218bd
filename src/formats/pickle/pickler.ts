import { NextvladError } from "../../base/errors.js";
import { OP } from "./opcodes.js";
import { latin1ToUtf8, utf8LengthOfLatin1 } from "./text.js";
import { ByteString, Bytes, Global, type Picklable, ReducedObject, Tuple } from "./values.js";

const PROTOCOL_2 = [OP.PROTO, 2];
const CHUNK_BYTES = 1 << 16;

/**
 * Pickles a list, protocol 2 (which every Python since 2.3 loads), item by item: only the bytes that were not taken yet are in memory. `add` throws BAD_FORMAT
 * for values that Python cannot represent: a lone surrogate, or a string or an int too long for its length field.
 */
export class PickledListEncoder {
  readonly #out = new ByteBuffer();
  #count: number;

  /** `written`: number of items that another encoder has already written; this encoder's bytes follow them. */
  constructor(written = 0) {
    this.#count = written;
    if (written === 0) for (const byte of [...PROTOCOL_2, OP.EMPTY_LIST, OP.MARK]) this.#out.byte(byte);
  }

  /** Number of bytes that `take` would return. */
  get length(): number {
    return this.#out.length;
  }

  add(item: Picklable): void {
    startItem(this.#count++, this.#out);
    encode(item, this.#out);
  }

  /** Closes the list; `take` then returns its last bytes. */
  end(): void {
    this.#out.byte(OP.APPENDS);
    this.#out.byte(OP.STOP);
  }

  /** Returns the bytes since the last call, in chunks that the caller owns; a long `ByteString` is a chunk of its own, not copied. */
  take(): Iterable<Uint8Array> {
    return this.#out.take();
  }
}

/** Pickles a list (see `PickledListEncoder`) in chunks that the consumer owns. Throws BAD_FORMAT. */
export async function* encodePickledList(items: Iterable<Picklable> | AsyncIterable<Picklable>): AsyncGenerator<Uint8Array> {
  const encoder = new PickledListEncoder();
  for await (const item of items) {
    encoder.add(item);
    if (encoder.length >= CHUNK_BYTES) yield* encoder.take();
  }
  encoder.end();
  yield* encoder.take();
}

/**
 * Pickles a dict, protocol 2, entry by entry in the given order. An entry is written before the next is requested, so both may use the same memory. A chunk is
 * valid until the next is requested. Throws BAD_FORMAT.
 */
export async function* encodePickledDict(entries: AsyncIterable<readonly [Picklable, Picklable]>): AsyncGenerator<Uint8Array> {
  const out = new ByteBuffer();
  for (const byte of [...PROTOCOL_2, OP.EMPTY_DICT]) out.byte(byte);
  for await (const [key, value] of entries) {
    encode(key, out);
    encode(value, out);
    out.byte(OP.SETITEM);
    yield* out.take();
  }
  out.byte(OP.STOP);
  yield* out.take();
}

const CODECS_ENCODE = new Global("_codecs", "encode");

/** CPython appends to a list in batches of this size, to bound the reader's stack. */
const APPENDS_BATCH = 1000;

/** Appends the pickle of a value, protocol 2, without PROTO and STOP. Throws BAD_FORMAT for values that cannot be pickled (see `PickledListEncoder`). */
function encode(value: Picklable, out: ByteBuffer): void {
  if (value === null) out.byte(OP.NONE);
  else if (typeof value === "boolean") out.byte(value ? OP.NEWTRUE : OP.NEWFALSE);
  else if (typeof value === "number") encodeFloat(value, out);
  else if (typeof value === "bigint") encodeInt(value, out);
  else if (typeof value === "string") encodeString(value, out);
  else if (value instanceof Tuple) encodeTuple(value, out);
  else if (value instanceof ByteString) encodeByteString(value, out);
  else if (value instanceof Bytes) encodeBytes(value, out);
  else if (value instanceof Global) encodeGlobal(value, out);
  else if (value instanceof ReducedObject) encodeReduced(value, out);
  else if (isMap(value)) encodeDict(value, out);
  else if (value instanceof Float32Array || value instanceof Float64Array) encodeList(value, encodeFloat, out);
  else if (ArrayBuffer.isView(value)) encodeList<number | bigint>(value, encodeInt, out);
  else encodeList(value, encode, out);
}

function encodeList<T>(items: Iterable<T>, encodeItem: (item: T, out: ByteBuffer) => void, out: ByteBuffer): void {
  out.byte(OP.EMPTY_LIST);
  out.byte(OP.MARK);
  let index = 0;
  for (const item of items) {
    startItem(index++, out);
    encodeItem(item, out);
  }
  out.byte(OP.APPENDS);
}

/** At a batch boundary of a list, appends the current batch and starts the next one. */
function startItem(index: number, out: ByteBuffer): void {
  if (index === 0 || index % APPENDS_BATCH !== 0) return;
  out.byte(OP.APPENDS);
  out.byte(OP.MARK);
}

function encodeTuple(tuple: Tuple<Picklable>, out: ByteBuffer): void {
  out.byte(OP.MARK);
  for (const item of tuple.items) encode(item, out);
  out.byte(OP.TUPLE);
}

function isMap(value: object): value is ReadonlyMap<Picklable, Picklable> {
  return value instanceof Map;
}

/** Writes all entries in one batch. */
function encodeDict(entries: ReadonlyMap<Picklable, Picklable>, out: ByteBuffer): void {
  out.byte(OP.EMPTY_DICT);
  out.byte(OP.MARK);
  for (const [key, value] of entries) {
    encode(key, out);
    encode(value, out);
  }
  out.byte(OP.SETITEMS);
}

function encodeByteString({ bytes }: ByteString, out: ByteBuffer): void {
  if (bytes.length < 1 << 8) {
    const at = out.reserve(2);
    out.view.setUint8(at, OP.SHORT_BINSTRING);
    out.view.setUint8(at + 1, bytes.length);
  } else {
    if (bytes.length >= 2 ** 31) {
      throw new NextvladError("BAD_FORMAT", "the bytes are too long to pickle", { expected: "less than 2 GiB", found: bytes.length });
    }
    const at = out.reserve(5);
    out.view.setUint8(at, OP.BINSTRING);
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
  const size = utf8LengthOfLatin1(bytes);
  if (size >= 2 ** 32) {
    throw new NextvladError("BAD_FORMAT", "the bytes are too long to pickle", { expected: "less than 4 GiB of UTF-8", found: size });
  }
  encodeGlobal(CODECS_ENCODE, out);
  out.byte(OP.MARK);
  const at = out.reserve(5);
  out.view.setUint8(at, OP.BINUNICODE);
  out.view.setUint32(at + 1, size, true);
  out.appendLater(latin1ToUtf8(bytes), size);
  encodeString("latin1", out);
  out.byte(OP.TUPLE);
  out.byte(OP.REDUCE);
}

function encodeGlobal({ module, name }: Global, out: ByteBuffer): void {
  out.byte(OP.GLOBAL);
  out.append(Buffer.from(`${module}\n${name}\n`, "ascii"));
}

function encodeReduced({ callable, args, state }: ReducedObject, out: ByteBuffer): void {
  encodeGlobal(callable, out);
  encodeTuple(args, out);
  out.byte(OP.REDUCE);
  encode(state, out);
  out.byte(OP.BUILD);
}

function encodeFloat(value: number, out: ByteBuffer): void {
  const at = out.reserve(9);
  out.view.setUint8(at, OP.BINFLOAT);
  out.view.setFloat64(at + 1, value);
}

/** Encodes an integer in the shortest form; values that do not fit an int32 are written as LONG1, two's complement. */
function encodeInt(value: number | bigint, out: ByteBuffer): void {
  if (value >= 0 && value < 1 << 8) {
    out.byte(OP.BININT1);
    out.byte(Number(value));
  } else if (value >= 0 && value < 1 << 16) {
    const at = out.reserve(3);
    out.view.setUint8(at, OP.BININT2);
    out.view.setUint16(at + 1, Number(value), true);
  } else if (value >= -(2 ** 31) && value < 2 ** 31) {
    const at = out.reserve(5);
    out.view.setUint8(at, OP.BININT);
    out.view.setInt32(at + 1, Number(value), true);
  } else {
    encodeLong(BigInt(value), out);
  }
}

function encodeLong(value: bigint, out: ByteBuffer): void {
  let bytes = 5;
  while (BigInt.asIntN(8 * bytes, value) !== value) bytes++;
  if (bytes > 255) throw new NextvladError("BAD_FORMAT", "the int is too long to pickle", { expected: "at most 255 bytes", found: bytes });
  out.byte(OP.LONG1);
  out.byte(bytes);
  for (let rest = value, i = 0; i < bytes; i++, rest >>= 8n) out.byte(Number(rest & 0xffn));
}

function encodeString(text: string, out: ByteBuffer): void {
  if (/\p{Surrogate}/u.test(text)) {
    throw new NextvladError("BAD_FORMAT", `${JSON.stringify(text)} contains a lone surrogate, which UTF-8 cannot encode`);
  }
  const bytes = Buffer.from(text, "utf8");
  const at = out.reserve(5);
  out.view.setUint8(at, OP.BINUNICODE);
  out.view.setUint32(at + 1, bytes.length, true);
  out.append(bytes);
}

const INITIAL_BYTES = 1 << 17;
/** Arrays of at least this many bytes are kept as chunks of their own, because copying them costs more than one more chunk. */
const LARGE_BYTES = 1 << 15;

type Piece = Uint8Array | Iterable<Uint8Array>;

function* flatten(pieces: readonly Piece[]): Generator<Uint8Array> {
  for (const piece of pieces) {
    if (piece instanceof Uint8Array) yield piece;
    else yield* piece;
  }
}

/** A growable byte buffer that is drained in pieces. */
class ByteBuffer {
  /** The current chunk. Bytes from the last `reserve` may be written here; the array is replaced when the buffer grows. */
  bytes = new Uint8Array(INITIAL_BYTES);
  view = new DataView(this.bytes.buffer);
  #end = 0;
  #finished: Piece[] = [];
  #finishedBytes = 0;

  get length(): number {
    return this.#finishedBytes + this.#end;
  }

  byte(value: number): void {
    this.bytes[this.reserve(1)] = value;
  }

  /** Appends `size` uninitialized bytes and returns their index in `bytes`. */
  reserve(size: number): number {
    const at = this.#end;
    this.#end += size;
    if (this.#end > this.bytes.length) {
      const larger = new Uint8Array(Math.max(2 * this.bytes.length, this.#end));
      larger.set(this.bytes.subarray(0, at));
      this.bytes = larger;
      this.view = new DataView(larger.buffer);
    }
    return at;
  }

  /** Appends bytes: copies fewer than `LARGE_BYTES`, otherwise keeps a reference. */
  append(bytes: Uint8Array): void {
    if (bytes.length < LARGE_BYTES) {
      const at = this.reserve(bytes.length);
      this.bytes.set(bytes, at);
      return;
    }
    this.#close();
    this.#finish(bytes, bytes.length);
  }

  /** Appends an iterable of pieces, which is consumed only while the result of `take` is read. `size` is their total in bytes. */
  appendLater(pieces: Iterable<Uint8Array>, size: number): void {
    this.#close();
    this.#finish(pieces, size);
  }

  #close(): void {
    this.#finish(this.bytes.slice(0, this.#end), this.#end);
    this.#end = 0;
  }

  #finish(piece: Piece, size: number): void {
    if (size === 0) return;
    this.#finished.push(piece);
    this.#finishedBytes += size;
  }

  /** Returns the bytes appended so far, in pieces, and empties the buffer. */
  take(): Iterable<Uint8Array> {
    this.#close();
    const pieces = this.#finished;
    this.#finished = [];
    this.#finishedBytes = 0;
    return flatten(pieces);
  }
}
