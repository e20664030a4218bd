import { NextvladError } from "../base/errors.js";
import { showValue } from "../base/shown-value.js";
import { stringTooLong } from "./pickle-string-guard.js";

const NEWLINE = 0x0a;
/** What is read at once of a pickle that is not in memory. */
const WINDOW_BYTES = 1 << 20;
/** More of a Python object's name is not shown: in a damaged pickle it goes on to the next newline, wherever that is. */
const MOST_NAME_LENGTH = 120;
/**
 * The longest text or bytes in a pickle, unless its reader sets another limit. The largest array of the published model has 302 MB, and 453 MB as the text that
 * protocol 2 makes of it.
 */
export const MAX_STRING_BYTES = 3 * 2 ** 28;
/** The longest line of text: V8 has no longer strings. */
const MAX_LINE_BYTES = 2 ** 28;

/** A pickle's bytes, which need not be in memory. */
export interface PickleSource {
  readonly sizeBytes: number;
  /** Fills the start of `target` with the bytes that follow those read before, and returns how many that was; 0 only at the end. */
  read(target: Uint8Array): number;
}

/** A cursor over a pickle's bytes that never goes past their end. Each read throws BAD_FORMAT, placed at the opcode at hand, where the bytes run out. */
export class PickleCursor {
  /** All bytes, or those at hand of a source's. */
  #bytes: Uint8Array;
  #view: DataView;
  #pos = 0;
  /** Where `#bytes` starts in the pickle. */
  #start = 0;
  /** Where the opcode at hand stands. */
  opcodeAt = 0;
  readonly #file: string;
  readonly #source: PickleSource | null;
  readonly #sizeBytes: number;
  #decodedBytes = 0;
  readonly #maxStringBytes: number;

  /** `file` is for errors. */
  constructor(pickle: Uint8Array | PickleSource, file: string, maxStringBytes = MAX_STRING_BYTES) {
    this.#bytes = pickle instanceof Uint8Array ? pickle : new Uint8Array();
    this.#view = viewOf(this.#bytes);
    this.#source = pickle instanceof Uint8Array ? null : pickle;
    this.#sizeBytes = pickle instanceof Uint8Array ? pickle.length : pickle.sizeBytes;
    this.#file = file;
    this.#maxStringBytes = maxStringBytes;
  }

  get left(): number {
    return this.#sizeBytes - this.#start - this.#pos;
  }

  opcode(): number {
    this.opcodeAt = this.#start + this.#pos;
    return this.uint8();
  }

  uint8(): number {
    const at = this.#step(1);
    return this.#bytes[at] as number;
  }

  uint16(): number {
    const at = this.#step(2);
    return this.#view.getUint16(at, true);
  }

  int32(): number {
    const at = this.#step(4);
    return this.#view.getInt32(at, true);
  }

  uint32(): number {
    const at = this.#step(4);
    return this.#view.getUint32(at, true);
  }

  /** A uint64 that is a length: exact as far as a file can be long. */
  uint64(): number {
    const at = this.#step(8);
    return this.#view.getUint32(at + 4, true) * 2 ** 32 + this.#view.getUint32(at, true);
  }

  /** Big-endian, as BINFLOAT is. */
  float64(): number {
    const at = this.#step(8);
    return this.#view.getFloat64(at);
  }

  /** A view of the next bytes, once it is known that they are there. */
  take(length: number): Uint8Array {
    const at = this.#step(length);
    return this.#bytes.subarray(at, at + length);
  }

  /** `take` for text and bytes, whose length has a limit. */
  takeString(length: number): Uint8Array {
    if (length > this.#maxStringBytes && length <= this.left) throw stringTooLong(this.#file, this.opcodeAt, this.#maxStringBytes, length);
    return this.take(length);
  }

  /** The bytes up to the next newline, which is stepped over. */
  line(): Uint8Array {
    let end = this.#bytes.indexOf(NEWLINE, this.#pos);
    while (end === -1) {
      const atHand = this.#bytes.length - this.#pos;
      this.#limitLine(atHand);
      if (atHand === this.left) throw this.truncated(`a line that ends, found ${this.left} bytes without a newline`);
      this.#refill(2 * atHand);
      end = this.#bytes.indexOf(NEWLINE, this.#pos + atHand);
    }
    this.#limitLine(end - this.#pos);
    const line = this.#bytes.subarray(this.#pos, end);
    this.#pos = end + 1;
    return line;
  }

  #limitLine(length: number): void {
    const maxBytes = Math.min(this.#maxStringBytes, MAX_LINE_BYTES);
    if (length > maxBytes) throw stringTooLong(this.#file, this.opcodeAt, maxBytes, length);
  }

  /** Counts bytes that are about to be decoded: all together they cannot be more than the file has. */
  chargeDecoded(length: number): void {
    this.#decodedBytes += length;
    if (this.#decodedBytes > this.#sizeBytes) throw this.error("it decodes more text than it holds");
  }

  #step(length: number): number {
    if (length > this.#bytes.length - this.#pos) {
      if (length > this.left) throw this.truncated(`${length} more bytes, found ${this.left}`);
      this.#refill(length);
    }
    const at = this.#pos;
    this.#pos += length;
    return at;
  }

  /** Puts at least `length` bytes at hand, or all that are left. They go into fresh memory, as what was taken before stays where it is. */
  #refill(length: number): void {
    const rest = this.#bytes.subarray(this.#pos);
    const bytes = new Uint8Array(Math.min(this.left, Math.max(WINDOW_BYTES, length)));
    bytes.set(rest);
    for (let filled = rest.length; filled < bytes.length; ) {
      const read = this.#source?.read(bytes.subarray(filled)) ?? 0;
      if (read === 0) throw this.truncated(`${this.left} more bytes, found ${filled}`);
      filled += read;
    }
    this.#start += this.#pos;
    this.#pos = 0;
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
  }

  truncated(expected: string): NextvladError {
    return new NextvladError("BAD_FORMAT", `the pickle is cut short or damaged: expected ${expected}`, {
      file: this.#file,
      byteOffset: this.opcodeAt,
      remedy: "download or copy the file again",
    });
  }

  /** An error at the opcode at hand: a pickle that breaks its own rules, or needs what is not read here. */
  error(what: string, remedy = "name a file that PaddlePaddle or tf2pkl.py wrote, or copy it again if it is one"): NextvladError {
    return new NextvladError("BAD_FORMAT", `the pickle cannot be read: ${what}`, { file: this.#file, byteOffset: this.opcodeAt, remedy });
  }

  /** An error for a global that is never resolved. */
  forbidden(module: string, name: string): NextvladError {
    return new NextvladError(
      "UNSAFE_PICKLE",
      `the pickle names the Python object ${showValue(`${module}.${name}`, MOST_NAME_LENGTH)}, which weights and features never need`,
      {
        file: this.#file,
        byteOffset: this.opcodeAt,
        remedy:
          "a pickle can name any program to be run, so this one was refused and nothing of it was run: do not load it in Python either, unless you trust where it came from",
      },
    );
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
