import { decodeBytes } from "../../base/byte-text.js";
import { NextvladError } from "../../base/errors.js";
import type { RecordPlace } from "../containers/byte-source.js";

/** Protocol Buffers' wire types. */
export const VARINT = 0;
export const FIXED64 = 1;
export const LENGTH_DELIMITED = 2;
export const FIXED32 = 5;

/** Returns a field's tag: its number and wire type as encoded on the wire. */
export function tagOf(field: number, wireType: number): number {
  return field * 8 + wireType;
}

/** Text of at most this many bytes is decoded byte by byte. */
const SHORT_TEXT_BYTES = 16;

/** Decodes text without loss (see `decodeBytes`). Short ASCII, such as names and IDs, takes a third of the time of a decoder call. */
export function decodeText(bytes: Uint8Array, start = 0, end = bytes.length): string {
  let text = "";
  for (let i = start; i < end; i++) {
    const byte = bytes[i] as number;
    if (byte >= 0x80 || i - start === SHORT_TEXT_BYTES) return decodeBytes(bytes.subarray(start, end));
    text += String.fromCharCode(byte);
  }
  return text;
}

/**
 * A cursor over a Protocol Buffers message. Each read gets the end of its enclosing message and never reads past it.
 * Throws BAD_FORMAT, with the byte offset, if the bytes are not a valid message. Encoding: https://protobuf.dev/programming-guides/encoding
 */
export class ProtobufReader {
  readonly bytes: Uint8Array;
  pos = 0;
  readonly #place: RecordPlace;

  /** `place.byteOffset` is the offset of `bytes` in their file. */
  constructor(bytes: Uint8Array, place: RecordPlace) {
    this.bytes = bytes;
    this.#place = place;
  }

  /** Reads an unsigned varint below 2^32 (a tag or a length). */
  varint32(end: number): number {
    const value = this.int64(end);
    if (value < 0 || value >= 2 ** 32) throw this.error("a length or tag is too large", this.pos);
    return value;
  }

  /** Reads a varint as an int64: exact up to 2^53 in magnitude, rounded beyond. */
  int64(end: number): number {
    const bytes = this.bytes;
    const start = this.pos;
    const first = start < end ? (bytes[start] as number) : 0x80;
    if (first < 0x80) {
      this.pos = start + 1;
      return first;
    }
    let low = 0;
    let high = 0;
    for (let index = 0; index < 10; index++) {
      if (start + index >= end) throw this.error("truncated varint", start);
      const byte = bytes[start + index] as number;
      const bits = byte & 0x7f;
      // `low` holds 28 bits; the other 36 go into `high`, whose top bit is the int64's sign.
      if (index < 4) low |= bits << (7 * index);
      else high += bits * 2 ** (7 * (index - 4));
      if (byte < 0x80) {
        this.pos = start + index + 1;
        high %= 2 ** 36;
        // Made signed before the parts are joined: near 2^64, doubles are 2,048 apart, and -1 must stay -1.
        return (high >= 2 ** 35 ? high - 2 ** 36 : high) * 2 ** 28 + low;
      }
    }
    throw this.error("a varint of more than ten bytes", start);
  }

  /** Reads a length and returns the end of the content that it measures; the cursor is then at the content's start. */
  lengthEnd(end: number): number {
    const start = this.pos;
    const length = this.varint32(end);
    if (length > end - this.pos) throw this.error(`a field of ${length} bytes exceeds its message`, start);
    return this.pos + length;
  }

  /** Skips a field whose tag has been read. */
  skip(tag: number, end: number): void {
    const start = this.pos;
    const wireType = tag & 7;
    if (wireType === VARINT) this.int64(end);
    else if (wireType === LENGTH_DELIMITED) this.pos = this.lengthEnd(end);
    else if (wireType === FIXED64) this.pos += 8;
    else if (wireType === FIXED32) this.pos += 4;
    else throw this.error(`unknown wire type ${wireType}`, start);
    if (this.pos > end) throw this.error("a field exceeds its message", start);
  }

  /** Returns an error at a byte of the message. */
  error(what: string, position: number): NextvladError {
    return new NextvladError("BAD_FORMAT", `not a tf.train.SequenceExample: ${what}`, {
      ...this.#place,
      byteOffset: this.#place.byteOffset + position,
      remedy: "pass YouTube-8M frame-level shards (2/frame/train, 2/frame/validate, 2/frame/test), or files in their format",
      damaged: "record",
    });
  }
}
