import { NextvladError } from "../base/errors.js";

/** Opcodes whose operand has a fixed number of bytes (CPython's pickletools). */
const FIXED: Readonly<Record<number, number>> = {
  75: 1, // BININT1
  113: 1, // BINPUT
  104: 1, // BINGET
  128: 1, // PROTO
  77: 2, // BININT2
  74: 4, // BININT
  114: 4, // LONG_BINPUT
  106: 4, // LONG_BINGET
  71: 8, // BINFLOAT
  149: 8, // FRAME
};

/** Opcodes whose operand begins with a length of this many bytes: text, bytes and long ints. */
const COUNTED: Readonly<Record<number, number>> = {
  85: 1, // SHORT_BINSTRING
  67: 1, // SHORT_BINBYTES
  140: 1, // SHORT_BINUNICODE
  138: 1, // LONG1
  84: 4, // BINSTRING
  66: 4, // BINBYTES
  88: 4, // BINUNICODE
  139: 4, // LONG4
  141: 8, // BINUNICODE8
  142: 8, // BINBYTES8
  150: 8, // BYTEARRAY8
};

/** Opcodes whose operand is this many lines: INT, LONG, FLOAT, STRING, UNICODE, PUT, GET; GLOBAL and INST have two. */
const LINES: Readonly<Record<number, number>> = { 73: 1, 76: 1, 70: 1, 83: 1, 86: 1, 112: 1, 103: 1, 99: 2, 105: 2 };

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
export class PickleStringGuard {
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
      } else if (this.#length.left > 0) this.#takeLengthByte(piece[at++] as number);
      else if (this.#lines > 0) at = this.#takeLine(piece, at);
      else this.#begin(piece[at] as number, this.#pieceStart + at++);
    }
    this.#pieceStart += piece.length;
  }

  #begin(opcode: number, at: number): void {
    this.#opcodeAt = at;
    this.#skip = FIXED[opcode] ?? 0;
    this.#length = { left: COUNTED[opcode] ?? 0, value: 0, weight: 1 };
    this.#lines = LINES[opcode] ?? 0;
    this.#lineBytes = 0;
  }

  #takeLengthByte(byte: number): void {
    const length = this.#length;
    length.value += byte * length.weight;
    length.weight *= 256;
    if (--length.left > 0) return;
    this.#refuse(length.value);
    this.#skip = length.value;
  }

  #takeLine(piece: Uint8Array, at: number): number {
    const end = piece.indexOf(NEWLINE, at);
    this.#lineBytes += (end === -1 ? piece.length : end) - at;
    this.#refuse(this.#lineBytes);
    if (end === -1) return piece.length;
    this.#lines--;
    this.#lineBytes = 0;
    return end + 1;
  }

  #refuse(bytes: number): void {
    if (bytes > this.#maxBytes) throw stringTooLong(this.#file, this.#opcodeAt, this.#maxBytes, bytes);
  }
}
