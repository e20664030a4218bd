import { NextvladError } from "../../base/errors.js";
import { showValue } from "../../base/shown-value.js";
import { stringTooLong } from "./length-check.js";

const NEWLINE = 0x0a;
/** Minimum read size for a pickle that is not in memory. */
const WINDOW_BYTES = 1 << 20;
/** Maximum length of a Python object's name in messages: in a corrupt pickle, the name extends to the next newline, wherever that is. */
const MAX_NAME_LENGTH = 120;
/** Default maximum length of text or bytes in a pickle. The largest array of the published model has 302 MB, and 453 MB as text in protocol 2. */
export const MAX_STRING_BYTES = 3 * 2 ** 28;
/** Maximum length of a line of text, below V8's limit for strings. */
const MAX_LINE_BYTES = 2 ** 28;

/** A pickle's bytes, read on demand. */
export interface PickleSource {
  readonly sizeBytes: number;
  /** Fills the start of `target` with the bytes that follow those read before, and returns the number of bytes read; 0 only at the end. */
  read(target: Uint8Array): number;
}

/** A bounds-checked reader of a pickle's bytes. Each read throws BAD_FORMAT, at the offset of the current opcode, if too few bytes are left. */
export class PickleReader {
  /** All bytes, or the buffered bytes of a source. */
  #bytes: Uint8Array;
  #view: DataView;
  #pos = 0;
  /** Offset of `#bytes` in the pickle. */
  #start = 0;
  /** Offset of the current opcode in the pickle. */
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

  /** Reads a uint64 length; exact for any possible file size. */
  uint64(): number {
    const at = this.#step(8);
    return this.#view.getUint32(at + 4, true) * 2 ** 32 + this.#view.getUint32(at, true);
  }

  /** Reads a big-endian float64, as BINFLOAT is. */
  float64(): number {
    const at = this.#step(8);
    return this.#view.getFloat64(at);
  }

  /** Returns a view of the next `length` bytes, after checking that the pickle has them. */
  take(length: number): Uint8Array {
    const at = this.#step(length);
    return this.#bytes.subarray(at, at + length);
  }

  /** `take` for text and bytes, limited to `maxStringBytes`. */
  takeString(length: number): Uint8Array {
    if (length > this.#maxStringBytes && length <= this.left) throw stringTooLong(this.#file, this.opcodeAt, this.#maxStringBytes, length);
    return this.take(length);
  }

  /** Returns the bytes up to the next newline, and skips the newline. */
  line(): Uint8Array {
    let end = this.#bytes.indexOf(NEWLINE, this.#pos);
    while (end === -1) {
      const buffered = this.#bytes.length - this.#pos;
      this.#limitLine(buffered);
      if (buffered === this.left) throw this.truncated(`a newline, found none in ${this.left} bytes`);
      this.#refill(2 * buffered);
      end = this.#bytes.indexOf(NEWLINE, this.#pos + buffered);
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

  /** Counts bytes that are about to be decoded: their total cannot exceed the file size. */
  countDecoded(length: number): void {
    this.#decodedBytes += length;
    if (this.#decodedBytes > this.#sizeBytes) throw this.error("the decoded text is longer than the file");
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

  /** Buffers at least `length` bytes, or all that are left. Allocates new memory, because the views that `take` returned must stay valid. */
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
    return new NextvladError("BAD_FORMAT", `the pickle is truncated or corrupt: expected ${expected}`, {
      file: this.#file,
      byteOffset: this.opcodeAt,
      remedy: "download or copy the file again",
    });
  }

  /** Returns an error at the current opcode: the pickle is invalid, or needs an unsupported feature. */
  error(what: string, remedy = "pass a file from PaddlePaddle or tf2pkl.py; if this is one, copy it again"): NextvladError {
    return new NextvladError("BAD_FORMAT", `cannot read the pickle: ${what}`, { file: this.#file, byteOffset: this.opcodeAt, remedy });
  }

  /** Returns an error for a global that is not allowed. */
  forbidden(module: string, name: string): NextvladError {
    const object = showValue(`${module}.${name}`, MAX_NAME_LENGTH);
    return new NextvladError(
      "UNSAFE_PICKLE",
      `unsafe pickle: it refers to the Python object ${object}, which weights and features never need`,
      {
        file: this.#file,
        byteOffset: this.opcodeAt,
        remedy: "a pickle can run any program; nothing of this one was run: do not load it in Python either, unless you trust its source",
      },
    );
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
