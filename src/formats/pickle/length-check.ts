import { NextvladError } from "../../base/errors.js";
import { OP } from "./opcodes.js";

/** Opcodes whose operand has a fixed number of bytes (CPython's pickletools). */
const FIXED: Readonly<Record<number, number>> = {
  [OP.BININT1]: 1,
  [OP.BINPUT]: 1,
  [OP.BINGET]: 1,
  [OP.PROTO]: 1,
  [OP.BININT2]: 2,
  [OP.BININT]: 4,
  [OP.LONG_BINPUT]: 4,
  [OP.LONG_BINGET]: 4,
  [OP.BINFLOAT]: 8,
  [OP.FRAME]: 8,
};

/** Opcodes whose operand begins with a length of this many bytes: text, bytes and long ints. */
const COUNTED: Readonly<Record<number, number>> = {
  [OP.SHORT_BINSTRING]: 1,
  [OP.SHORT_BINBYTES]: 1,
  [OP.SHORT_BINUNICODE]: 1,
  [OP.LONG1]: 1,
  [OP.BINSTRING]: 4,
  [OP.BINBYTES]: 4,
  [OP.BINUNICODE]: 4,
  [OP.LONG4]: 4,
  [OP.BINUNICODE8]: 8,
  [OP.BINBYTES8]: 8,
  [OP.BYTEARRAY8]: 8,
};

/** Opcodes whose operand is this many lines. */
const LINES: Readonly<Record<number, number>> = {
  [OP.INT]: 1,
  [OP.LONG]: 1,
  [OP.FLOAT]: 1,
  [OP.STRING]: 1,
  [OP.UNICODE]: 1,
  [OP.PUT]: 1,
  [OP.GET]: 1,
  [OP.GLOBAL]: 2,
  [OP.INST]: 2,
};

const NEWLINE = 0x0a;

/** Returns the error for text or bytes longer than the maximum. */
export function stringTooLong(file: string, byteOffset: number, maxBytes: number, found: number): NextvladError {
  return new NextvladError("BAD_FORMAT", "text or bytes in the pickle are too long", {
    file,
    byteOffset,
    expected: `at most ${maxBytes} bytes`,
    found,
    remedy: "copy or download the file again; for shards, --max-record-bytes raises the limit",
    damaged: "rest of shard",
  });
}

/**
 * Tracks the opcodes of a pickle while its bytes arrive, and rejects text or bytes longer than a limit by their declared length, before they are in memory. It
 * checks nothing else: data that are not a pickle pass, and the parser rejects them.
 */
export class PickleLengthCheck {
  readonly #file: string;
  readonly #maxBytes: number;
  /** Offset of the current piece in the pickle. */
  #pieceStart = 0;
  #skip = 0;
  #lines = 0;
  #lineBytes = 0;
  /** The remaining bytes of a length, its value so far, and the weight of its next byte. */
  #length = { left: 0, value: 0, weight: 1 };
  #opcodeAt = 0;

  constructor(file: string, maxBytes: number) {
    this.#file = file;
    this.#maxBytes = maxBytes;
  }

  /** Checks the next bytes of the pickle. Throws BAD_FORMAT if text or bytes are too long. */
  check(piece: Uint8Array): void {
    let at = 0;
    while (at < piece.length) {
      if (this.#skip > 0) {
        const step = Math.min(this.#skip, piece.length - at);
        this.#skip -= step;
        at += step;
      } else if (this.#length.left > 0) this.#readLengthByte(piece[at++] as number);
      else if (this.#lines > 0) at = this.#readLine(piece, at);
      else this.#startOpcode(piece[at] as number, this.#pieceStart + at++);
    }
    this.#pieceStart += piece.length;
  }

  #startOpcode(opcode: number, at: number): void {
    this.#opcodeAt = at;
    this.#skip = FIXED[opcode] ?? 0;
    this.#length = { left: COUNTED[opcode] ?? 0, value: 0, weight: 1 };
    this.#lines = LINES[opcode] ?? 0;
    this.#lineBytes = 0;
  }

  #readLengthByte(byte: number): void {
    const length = this.#length;
    length.value += byte * length.weight;
    length.weight *= 256;
    if (--length.left > 0) return;
    this.#requireLength(length.value);
    this.#skip = length.value;
  }

  #readLine(piece: Uint8Array, at: number): number {
    const end = piece.indexOf(NEWLINE, at);
    this.#lineBytes += (end === -1 ? piece.length : end) - at;
    this.#requireLength(this.#lineBytes);
    if (end === -1) return piece.length;
    this.#lines--;
    this.#lineBytes = 0;
    return end + 1;
  }

  #requireLength(bytes: number): void {
    if (bytes > this.#maxBytes) throw stringTooLong(this.#file, this.#opcodeAt, this.#maxBytes, bytes);
  }
}
