import { escapeBytes } from "./byte-text.js";

// Text from outside (IDs, names in files, keys, paths, arguments) as messages, logs and reports show it: on one line, without characters that a terminal
// acts on, and not too long. Results and JSON hold the exact text.

/** Characters of a value that a message shows. */
const MAX_VALUE_LENGTH = 80;
/** A path is longer only if it is absurd. */
const MAX_PATH_LENGTH = 1000;
/** Characters of a message or log line. A pipe takes 64 KB at once, also if each character is escaped. */
export const MAX_MESSAGE_LENGTH = 8000;

/**
 * Characters that control a terminal, are invisible or reorder text, by their Unicode category: controls (C0, DEL, C1), format characters (bidirectional
 * marks, zero-width characters, byte order mark, tags), line and paragraph separators, and lone surrogates.
 */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;
const EVERY_UNSAFE = new RegExp(UNSAFE, "gu");
/** Those that JSON does not escape by itself. */
const UNSAFE_IN_JSON = /[\u007f-\u009f\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
const SHORT_ESCAPES: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/**
 * Text from outside on one line, with all unsafe characters escaped: `\n`, `\x1B`, `\u202E`; `\xFF` for a byte that is not part of valid UTF-8. Everything
 * else stays, backslashes too, so text that is escaped already does not change.
 */
export function escapeText(text: string): string {
  return UNSAFE.test(text) ? text.replace(EVERY_UNSAFE, (character) => escapeCharacter(character)) : text;
}

function escapeCharacter(character: string): string {
  const short = SHORT_ESCAPES[character];
  if (short !== undefined) return short;
  const code = character.codePointAt(0) as number;
  if (code < 0x80) return `\\x${hex(code, 2)}`;
  if (code >= 0xd800 && code <= 0xdfff) return escapeBytes(character);
  return code > 0xffff ? `\\u{${hex(code, 5)}}` : `\\u${hex(code, 4)}`;
}

function hex(code: number, digits: number): string {
  return code.toString(16).toUpperCase().padStart(digits, "0");
}

/** One line of output, which may have tabs between its columns. */
export function escapeLine(line: string): string {
  return line.split("\t").map(escapeText).join("\t");
}

/** The same JSON value as text that is safe to print: JSON itself leaves DEL, C1, format characters and separators as they are. */
export function escapeJson(json: string): string {
  return json.replace(UNSAFE_IN_JSON, (character) =>
    Array.from({ length: character.length }, (_, i) => `\\u${hex(character.charCodeAt(i), 4)}`).join(""),
  );
}

/** Text from outside for a message: escaped, and if it is long, its start and end with its length. */
export function showText(text: string, maxLength: number = MAX_VALUE_LENGTH): string {
  return escapeText(shorten(text, maxLength));
}

/** A path for a message. */
export function showPath(path: string): string {
  return showText(path, MAX_PATH_LENGTH);
}

/** A whole message on one line: its own line breaks become blanks. */
export function showMessage(message: string): string {
  const short = shorten(message, MAX_MESSAGE_LENGTH);
  const lines = short.split("\n").map((line) => line.trim());
  return escapeText(lines.filter((line) => line !== "").join(" "));
}

/** A value that came from a file, as JSON, so that the user recognizes it: escaped and short, like `showText`. */
export function showValue(value: unknown, maxLength: number = MAX_VALUE_LENGTH): string {
  if (typeof value === "number") return String(value);
  if (typeof value !== "string") return showText(jsonOf(value), maxLength);
  if (value.length <= maxLength) return escapeText(JSON.stringify(value));
  return escapeText(`${JSON.stringify(cut(value, maxLength))} ${lengthOf(value)}`);
}

/** A value may be nested deeper than the stack allows, or, by YAML's aliases, hold itself. */
function jsonOf(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return `${Array.isArray(value) ? "a list" : "a mapping"} that is nested too deeply`;
  }
}

/** Text from outside that is stored with an error: not escaped, but not longer than a message could show. */
export function boundText(text: string): string {
  return shorten(text, MAX_PATH_LENGTH);
}

/** What a shortened text ends with. */
const LENGTH_NOTE = / \(\d+ characters\)$/;

/** Text that was shortened before keeps its first length. */
function shorten(text: string, maxLength: number): string {
  if (text.length <= maxLength) return text;
  const [note] = LENGTH_NOTE.exec(text.slice(-MAX_VALUE_LENGTH)) ?? [];
  return note === undefined ? `${cut(text, maxLength)} ${lengthOf(text)}` : cut(text.slice(0, -note.length), maxLength) + note;
}

/**
 * The first three quarters of `length` characters, and the last quarter; no character outside the BMP is cut in half. In memory of its own: V8's slices of
 * a string hold the whole string.
 */
function cut(text: string, length: number): string {
  const tailLength = length >> 2;
  const head = text.slice(0, length - tailLength).replace(/[\uD800-\uDBFF]$/, "");
  const tail = text.slice(text.length - tailLength).replace(/^[\uDC00-\uDFFF]/, "");
  return Buffer.from(`${head}...${tail}`, "utf16le").toString("utf16le");
}

function lengthOf(text: string): string {
  return `(${text.length} characters)`;
}
