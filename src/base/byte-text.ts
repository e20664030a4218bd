import { isUtf8 } from "node:buffer";

// Video IDs are bytes, and usually UTF-8. Inside the program they are strings in the form of Python's "surrogateescape" (PEP 383): a byte that is not part of
// valid UTF-8 is the code unit U+DC00 + byte, U+DC80 to U+DCFF, which valid text contains only in surrogate pairs. Distinct IDs are therefore distinct strings.

const ESCAPED = 0xdc00;
const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
const LONE_SURROGATE = /\p{Surrogate}/u;

/** Decodes bytes to text from which `encodeBytes` restores them exactly. */
export function decodeBytes(bytes: Uint8Array): string {
  if (isUtf8(bytes)) return utf8.decode(bytes);
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const length = characterLength(bytes, at);
    text += length === 0 ? String.fromCharCode(ESCAPED + (bytes[at] as number)) : utf8.decode(bytes.subarray(at, at + length));
    at += Math.max(1, length);
  }
  return text;
}

/** Returns the length in bytes of the UTF-8 character at `at`, or 0 if no valid character starts there. */
function characterLength(bytes: Uint8Array, at: number): number {
  const first = bytes[at] as number;
  const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  return at + length <= bytes.length && isUtf8(bytes.subarray(at, at + length)) ? length : 0;
}

/** Encodes text to bytes; inverts `decodeBytes`. A lone surrogate outside U+DC80 to U+DCFF becomes three bytes by the scheme of UTF-8. */
export function encodeBytes(text: string): Uint8Array {
  if (isUnicode(text)) return Buffer.from(text, "utf8");
  return Buffer.concat(
    Array.from(text, (character) => {
      const code = character.codePointAt(0) as number;
      if (!LONE_SURROGATE.test(character)) return Buffer.from(character, "utf8");
      if (code >= ESCAPED + 0x80 && code <= ESCAPED + 0xff) return Buffer.from([code - ESCAPED]);
      return Buffer.from([0xe0 | (code >> 12), 0x80 | ((code >> 6) & 0x3f), 0x80 | (code & 0x3f)]);
    }),
  );
}

/** Returns whether a text has no lone surrogate, so that its bytes are valid UTF-8. */
export function isUnicode(text: string): boolean {
  return !LONE_SURROGATE.test(text);
}

/** Returns the text after `encodeBytes` and `decodeBytes`, so that texts with the same bytes compare equal. */
export function normaliseBytes(text: string): string {
  return isUnicode(text) ? text : decodeBytes(encodeBytes(text));
}

/**
 * Escapes text for results and messages without loss: `\xFF` is a byte that is not part of valid UTF-8. A backslash that would start such an escape becomes
 * `\x5C`; all other characters stay.
 */
export function escapeBytes(text: string): string {
  const escaped = text.includes("\\x") ? text.replace(/\\(?=x[0-9A-Fa-f]{2})/g, "\\x5C") : text;
  if (isUnicode(escaped)) return escaped;
  return escaped.replace(/\p{Surrogate}/gu, (unit) => {
    const hex = (byte: number): string => `\\x${byte.toString(16).toUpperCase().padStart(2, "0")}`;
    return Array.from(encodeBytes(unit), hex).join("");
  });
}

/** The inverse of `escapeBytes`. */
export function unescapeBytes(text: string): string {
  if (!/\\x[0-9A-Fa-f]{2}/.test(text)) return text;
  const pieces: Uint8Array[] = [];
  let end = 0;
  for (const { 0: escaped, index } of text.matchAll(/\\x[0-9A-Fa-f]{2}/g)) {
    pieces.push(encodeBytes(text.slice(end, index)), Buffer.from(escaped.slice(2), "hex"));
    end = index + escaped.length;
  }
  return decodeBytes(Buffer.concat([...pieces, encodeBytes(text.slice(end))]));
}
