import { FIXED32, FIXED64, LENGTH_DELIMITED, tagOf, VARINT } from "./reader.js";

/** A Protocol Buffers message as pieces that are joined once, at the end, at any nesting depth. Pieces may be views of large arrays: nothing is copied. */
export interface Message {
  readonly pieces: readonly Uint8Array[];
  /** In bytes. */
  readonly size: number;
}

/** Returns bytes as the content of a field. */
export function rawBytes(bytes: Uint8Array): Message {
  return { pieces: [bytes], size: bytes.length };
}

/** Concatenates fields, or parts of them. */
export function concat(parts: readonly Message[]): Message {
  return { pieces: parts.flatMap((part) => part.pieces), size: parts.reduce((sum, part) => sum + part.size, 0) };
}

/** Encodes a length-delimited field: a message, bytes, or a packed list. */
export function field(number: number, content: Message): Message {
  const head = new Uint8Array([...varint(tagOf(number, LENGTH_DELIMITED)), ...varint(content.size)]);
  return { pieces: [head, ...content.pieces], size: head.length + content.size };
}

/** Encodes a UTF-8 text field. */
export function stringField(number: number, text: string): Message {
  return field(number, rawBytes(Buffer.from(text, "utf8")));
}

/** Encodes an integer or enum field. */
export function varintField(number: number, value: number | bigint): Message {
  return rawBytes(new Uint8Array([...varint(tagOf(number, VARINT)), ...varint(value)]));
}

/** Encodes a float32 field. */
export function floatField(number: number, value: number): Message {
  return rawBytes(new Uint8Array([...varint(tagOf(number, FIXED32)), ...new Uint8Array(Float32Array.of(value).buffer)]));
}

/** Encodes a float64 field. */
export function doubleField(number: number, value: number): Message {
  return rawBytes(new Uint8Array([...varint(tagOf(number, FIXED64)), ...new Uint8Array(Float64Array.of(value).buffer)]));
}

/** Encodes an integer as a varint; a negative one takes ten bytes, as an int64. */
export function varint(value: number | bigint): number[] {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return [...bytes, Number(rest)];
}
