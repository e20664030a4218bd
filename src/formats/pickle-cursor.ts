import { NextvladError } from "../base/errors.js";

const NEWLINE = 0x0a;

/** A cursor over a pickle's bytes that never goes past their end. Each read throws BAD_FORMAT, placed at the opcode at hand, where the bytes run out. */
export class PickleCursor {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  pos = 0;
  /** Where the opcode at hand stands. */
  opcodeAt = 0;
  readonly #file: string;
  #decodedBytes = 0;

  /** `file` is for errors. */
  constructor(bytes: Uint8Array, file: string) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#file = file;
  }

  get left(): number {
    return this.bytes.length - this.pos;
  }

  opcode(): number {
    this.opcodeAt = this.pos;
    return this.uint8();
  }

  uint8(): number {
    return this.view.getUint8(this.#step(1));
  }

  uint16(): number {
    return this.view.getUint16(this.#step(2), true);
  }

  int32(): number {
    return this.view.getInt32(this.#step(4), true);
  }

  uint32(): number {
    return this.view.getUint32(this.#step(4), true);
  }

  /** A uint64 that is a length: exact as far as a file can be long. */
  uint64(): number {
    const at = this.#step(8);
    return this.view.getUint32(at + 4, true) * 2 ** 32 + this.view.getUint32(at, true);
  }

  /** Big-endian, as BINFLOAT is. */
  float64(): number {
    return this.view.getFloat64(this.#step(8));
  }

  /** A view of the next bytes, once it is known that they are there. */
  take(length: number): Uint8Array {
    const at = this.#step(length);
    return this.bytes.subarray(at, at + length);
  }

  /** The bytes up to the next newline, which is stepped over. */
  line(): Uint8Array {
    const end = this.bytes.indexOf(NEWLINE, this.pos);
    if (end === -1) throw this.truncated(`a line that ends, found ${this.left} bytes without a newline`);
    const line = this.bytes.subarray(this.pos, end);
    this.pos = end + 1;
    return line;
  }

  /** Counts bytes that are about to be decoded: all together they cannot be more than the file has. */
  chargeDecoded(length: number): void {
    this.#decodedBytes += length;
    if (this.#decodedBytes > this.bytes.length) throw this.error("it decodes more text than it holds");
  }

  #step(length: number): number {
    if (length > this.left) throw this.truncated(`${length} more bytes, found ${this.left}`);
    const at = this.pos;
    this.pos += length;
    return at;
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
      `the pickle names the Python object ${JSON.stringify(`${module}.${name}`)}, which weights and features never need`,
      {
        file: this.#file,
        byteOffset: this.opcodeAt,
        remedy:
          "a pickle can name any program to be run, so this one was refused and nothing of it was run: do not load it in Python either, unless you trust where it came from",
      },
    );
  }
}
