import { ByteBuffer } from "./byte-buffer.js";
import type { PickleValue } from "./picklable.js";
import { APPENDS, EMPTY_DICT, EMPTY_LIST, encode, MARK, startItem } from "./pickle-encoding.js";

const PROTO_2 = [0x80, 0x02];
const STOP = 0x2e;
const SETITEM = 0x73;
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
    if (written === 0) for (const byte of [...PROTO_2, EMPTY_LIST, MARK]) this.#out.byte(byte);
  }

  /** Number of bytes that `take` would return. */
  get length(): number {
    return this.#out.length;
  }

  add(item: PickleValue): void {
    startItem(this.#count++, this.#out);
    encode(item, this.#out);
  }

  /** Closes the list; `take` then returns its last bytes. */
  end(): void {
    this.#out.byte(APPENDS);
    this.#out.byte(STOP);
  }

  /** Returns the bytes since the last call, in chunks that the caller owns; a long `ByteString` is a chunk of its own, not copied. */
  take(): Iterable<Uint8Array> {
    return this.#out.take();
  }
}

/** Pickles a list (see `PickledListEncoder`) in chunks that the consumer owns. Throws BAD_FORMAT. */
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
 * Pickles a dict, protocol 2, entry by entry in the given order. An entry is written before the next is requested, so both may use the same memory. A chunk is
 * valid until the next is requested. Throws BAD_FORMAT.
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
