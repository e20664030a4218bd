import { isUtf8, transcode } from "node:buffer";
import { parseDecimal } from "../../base/numbers.js";
import type { PickledValue } from "./values.js";

/** A str of more UTF-8 bytes than this is decoded on demand. */
export const LONG_TEXT_BYTES = 1 << 12;
const [UTF8_PIECE_BYTES, LATIN1_PIECE_BYTES] = [1 << 18, 1 << 22];
/** Maximum size of a key, type name or encoding name. */
const MAX_NAME_BYTES = 1 << 16;

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Decodes UTF-8 as Python writes it; returns null if it is invalid. Preserves lone surrogates, which Python writes too (its "surrogatepass"). */
export function decodeUtf8(bytes: Uint8Array): string | null {
  try {
    return utf8.decode(bytes);
  } catch {
    return decodeSurrogates(bytes);
  }
}

/** Decodes UTF-8 in which U+D800 to U+DFFF have three bytes each (ED A0..BF xx); returns null if other bytes are not UTF-8. */
function decodeSurrogates(bytes: Uint8Array): string | null {
  const pieces: string[] = [];
  let start = 0;
  for (let at = bytes.indexOf(0xed); at !== -1; at = bytes.indexOf(0xed, at + 1)) {
    const [second = 0, third = 0] = bytes.subarray(at + 1, at + 3);
    if (second < 0xa0 || second > 0xbf || third < 0x80 || third > 0xbf) continue;
    if (!isUtf8(bytes.subarray(start, at))) return null;
    pieces.push(utf8.decode(bytes.subarray(start, at)), String.fromCharCode(0xd000 | ((second & 0x3f) << 6) | (third & 0x3f)));
    start = at + 3;
  }
  return isUtf8(bytes.subarray(start)) ? pieces.join("") + utf8.decode(bytes.subarray(start)) : null;
}

/** `str.encode("latin1")` of UTF-8 bytes without an intermediate string; null if a character is above U+00FF or the bytes are not UTF-8. */
export function utf8ToLatin1(bytes: Uint8Array): Uint8Array | null {
  // Node's transcoder throws for some invalid bytes and ignores others.
  if (!isUtf8(bytes)) return null;
  let length = 0;
  for (const piece of utf16Pieces(bytes)) length += piece.length;
  const latin1 = new Uint8Array(length);
  let at = 0;
  for (const piece of utf16Pieces(bytes)) {
    if (!isLatin1(piece)) return null;
    latin1.set(piece, at);
    at += piece.length;
  }
  return latin1;
}

/** `str.encode("latin1")`; null if a character is above U+00FF. */
export function stringToLatin1(text: string): Uint8Array | null {
  return /[^\0-\xff]/.test(text) ? null : Buffer.from(text, "latin1");
}

/** Converts UTF-8 to UTF-16 with Node's own transcoder, which is vectorized: ten times faster than a loop over the bytes. */
function* utf16Pieces(bytes: Uint8Array): Generator<Uint16Array> {
  for (let start = 0; start < bytes.length; ) {
    let end = Math.min(bytes.length, start + UTF8_PIECE_BYTES);
    // Move back to the start of a character, which has at most 3 bytes after its first.
    for (let back = 0; back < 3 && end < bytes.length && ((bytes[end] as number) & 0xc0) === 0x80; back++) end--;
    const piece = transcode(bytes.subarray(start, end), "utf8", "utf16le");
    yield new Uint16Array(piece.buffer, piece.byteOffset, piece.length / 2);
    start = end;
  }
}

function isLatin1(units: Uint16Array): boolean {
  let bits = 0;
  const pairs = new Uint32Array(units.buffer, units.byteOffset, units.length >> 1);
  for (let i = 0; i < pairs.length; i++) bits |= pairs[i] as number;
  if (units.length % 2 === 1) bits |= units[units.length - 1] as number;
  return (bits & 0xff00ff00) === 0;
}

const ESCAPES: Readonly<Record<string, number>> = { a: 7, b: 8, f: 12, n: 10, r: 13, t: 9, v: 11, "\\": 92, "'": 39, '"': 34 };

/** Decodes a Python 2 string literal with its quotes (protocol 0's STRING: `'ab\x00\n'`); returns null if it is invalid. */
export function parseStringLiteral(line: Uint8Array): Uint8Array | null {
  const text = decodeLatin1(line).trimEnd();
  const quote = text[0];
  if (text.length < 2 || (quote !== "'" && quote !== '"') || !text.endsWith(quote)) return null;
  const body = text.slice(1, -1);
  const literal = body.replace(/\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)/gs, (whole, code: string) => {
    const byte = ESCAPES[code] ?? numericEscape(code);
    return byte === undefined ? whole : String.fromCharCode(byte & 0xff);
  });
  return Buffer.from(literal, "latin1");
}

function numericEscape(code: string): number | undefined {
  if (/^x./.test(code)) return Number.parseInt(code.slice(1), 16);
  return /^[0-7]/.test(code) ? Number.parseInt(code, 8) : undefined;
}

/**
 * Decodes protocol 0's UNICODE: Python's raw-unicode-escape, Latin-1 with `\uXXXX` and `\UXXXXXXXX`; returns null if an escape is truncated or above U+10FFFF.
 */
export function parseRawUnicode(line: Uint8Array): string | null {
  let isValid = true;
  const text = decodeLatin1(line).replace(/\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.|$)/gs, (match, code: string) => {
    const point = code.length > 1 ? Number.parseInt(code.slice(1), 16) : undefined;
    if (point === undefined ? /u/i.test(code) : point > 0x10ffff) isValid = false;
    return point === undefined || !isValid ? match : String.fromCodePoint(point);
  });
  return isValid ? text : null;
}

/** Decodes bytes as Latin-1. */
export function decodeLatin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

/** Returns text that a writer may have stored as bytes (Python 2's `str`); null for other or longer values. */
export function asText(value: PickledValue | undefined): string | null {
  if (typeof value === "string") return value;
  return value instanceof Uint8Array && value.length <= MAX_NAME_BYTES ? decodeLatin1(value) : null;
}

/** Maximum length of an int, in bytes and in digits: decoding one takes time quadratic in its length. */
export const MAX_INT_BYTES = 256;
export const MAX_INT_DIGITS = 640;

/** Decodes little-endian two's complement, as in LONG1 and LONG4. */
export function decodeLong(bytes: Uint8Array): number | bigint {
  if (bytes.length === 0) return 0;
  let hex = "";
  for (const byte of bytes) hex = byte.toString(16).padStart(2, "0") + hex;
  return exactInt(BigInt.asIntN(8 * bytes.length, BigInt(`0x${hex}`)));
}

/** Parses the decimal digits of INT and LONG (LONG's end in `L`); returns null if they are invalid or too many. */
export function parseIntLine(line: Uint8Array): number | bigint | null {
  if (line.length > MAX_INT_DIGITS) return null;
  const digits = /^\s*([+-]?\d+)L?\s*$/.exec(decodeLatin1(line))?.[1];
  return digits === undefined ? null : exactInt(BigInt(digits.replace("+", "")));
}

/** Parses a float as Python's repr writes it; returns null if it is invalid. */
export function parseFloatLine(line: Uint8Array): number | null {
  if (line.length > 64) return null;
  const text = decodeLatin1(line).trim();
  const special = /^([+-]?)(?:(nan)|inf|infinity)$/i.exec(text);
  if (special !== null)
    return special[2] !== undefined ? Number.NaN : special[1] === "-" ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
  const number = parseDecimal(text);
  return Number.isNaN(number) ? null : number;
}

/** Returns an integer as a number if that is exact. */
export function exactInt(value: bigint): number | bigint {
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}

/** Decodes bytes as Latin-1 and yields the text as UTF-8, in pieces. */
export function* latin1ToUtf8(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += LATIN1_PIECE_BYTES) {
    const piece = bytes.subarray(at, at + LATIN1_PIECE_BYTES);
    yield Buffer.from(decodeLatin1(piece), "utf8");
  }
}

/** Returns the size of `latin1ToUtf8`'s output in bytes: two for each byte from 0x80 on, one for each other byte. */
export function utf8LengthOfLatin1(bytes: Uint8Array): number {
  let size = bytes.length;
  for (let i = 0; i < bytes.length; i++) size += (bytes[i] as number) >> 7;
  return size;
}
