import { ByteBuffer } from "./byte-buffer.js";
import type { PickleValue } from "./picklable.js";
import { APPENDS, EMPTY_DICT, EMPTY_LIST, encode, MARK, startItem } from "./pickle-encoding.js";

const PROTO_2 = [0x80, 0x02];
const STOP = 0x2e;
const SETITEM = 0x73;
const CHUNK_BYTES = 1 << 16;

/**
 * Pickles a list, protocol 2 (every Python since 2.3 loads it), item after item: only what was not taken yet is in memory. `add` throws
 * BAD_FORMAT for what Python has no form of: half a surrogate pair, or a string or an int too long for its length field.
 */
export class PickledListEncoder {
  readonly #out = new ByteBuffer();
  #count: number;

  /** `written`: items that another encoder has written already, whose bytes these go behind. */
  constructor(written = 0) {
    this.#count = written;
    if (written === 0) for (const byte of [...PROTO_2, EMPTY_LIST, MARK]) this.#out.byte(byte);
  }

  /** Bytes that may be taken. */
  get length(): number {
    return this.#out.length;
  }

  add(item: PickleValue): void {
    startItem(this.#count++, this.#out);
    encode(item, this.#out);
  }

  /** Closes the list; the bytes left then are the last. */
  end(): void {
    this.#out.byte(APPENDS);
    this.#out.byte(STOP);
  }

  /** The bytes since the last call, in chunks that are the caller's to keep; a long `ByteString` is one of them as it is, not copied. */
  take(): Iterable<Uint8Array> {
    return this.#out.take();
  }
}

/** Pickles a list (see `PickledListEncoder`) by chunks, which are the consumer's to keep. Throws BAD_FORMAT. */
export async function* encodePickledList(items: Iterable<PickleValue> | AsyncIterable<PickleValue>): AsyncGenerator<Uint8Array> {
  const encoder = new PickledListEncoder();
  for await (const item of items) {
    encoder.add(item);
    if (encoder.length >= CHUNK_BYTES) yield* encoder.take();
  }
  encoder.end();
  yield* encoder.take();
}

/**
 * Pickles a dict, protocol 2, entry after entry in the order given. An entry is written before the next is asked for, so both may use the same memory.
 * The chunks are the consumer's until it asks for the next. Throws BAD_FORMAT.
 */
export async function* encodePickledDict(entries: AsyncIterable<readonly [PickleValue, PickleValue]>): AsyncGenerator<Uint8Array> {
  const out = new ByteBuffer();
  for (const byte of [...PROTO_2, EMPTY_DICT]) out.byte(byte);
  for await (const [key, value] of entries) {
    encode(key, out);
    encode(value, out);
    out.byte(SETITEM);
    yield* out.take();
  }
  out.byte(STOP);
  yield* out.take();
}
