import { escapeBytes } from "./byte-text.js";

// Untrusted text (IDs, names in files, keys, paths, arguments) as messages, logs and reports show it: on one line, without control characters, and of
// bounded length. Results and JSON hold the exact text.

/** Maximum number of characters of a value in a message. */
const MAX_VALUE_LENGTH = 80;
/** The same for a path; longer paths do not occur in practice. */
const MAX_PATH_LENGTH = 1000;
/** Maximum number of characters of a message or log line: even if each is escaped, it fits into a pipe's buffer of 64 KB. */
export const MAX_MESSAGE_LENGTH = 8000;

/**
 * Characters that control a terminal, are invisible or reorder text, by their Unicode category: controls (C0, DEL, C1), format characters (bidirectional
 * marks, zero-width characters, byte order mark, tags), line and paragraph separators, and lone surrogates.
 */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;
const EVERY_UNSAFE = new RegExp(UNSAFE, "gu");
/** The unsafe characters that may appear unescaped in JSON. */
const UNSAFE_IN_JSON = /[\u007f-\u009f\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
const SHORT_ESCAPES: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/**
 * Escapes all unsafe characters of untrusted text, which then is on one line: `\n`, `\x1B`, `\u202E`; `\xFF` for a byte that is not part of valid UTF-8.
 * Everything else stays, including backslashes, so text that is already escaped does not change.
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

/** Escapes one line of output, except for tabs between its columns. */
export function escapeLine(line: string): string {
  return line.split("\t").map(escapeText).join("\t");
}

/** Returns the same JSON value as text that is safe to print: JSON leaves DEL, C1, format characters and separators unescaped. */
export function escapeJson(json: string): string {
  return json.replace(UNSAFE_IN_JSON, (character) =>
    Array.from({ length: character.length }, (_, i) => `\\u${hex(character.charCodeAt(i), 4)}`).join(""),
  );
}

/** Formats untrusted text for a message: escaped, and if it is too long, its start and end with its length. */
export function showText(text: string, maxLength: number = MAX_VALUE_LENGTH): string {
  return escapeText(shorten(text, maxLength));
}

/** Formats a path for a message. */
export function showPath(path: string): string {
  return showText(path, MAX_PATH_LENGTH);
}

/** Formats a whole message on one line: line breaks become spaces. */
export function showMessage(message: string): string {
  const short = shorten(message, MAX_MESSAGE_LENGTH);
  const lines = short.split("\n").map((line) => line.trim());
  return escapeText(lines.filter((line) => line !== "").join(" "));
}

/** Formats a value of a file as JSON, so that the user recognizes it: escaped and shortened, like `showText`. */
export function showValue(value: unknown, maxLength: number = MAX_VALUE_LENGTH): string {
  if (typeof value === "number") return String(value);
  if (typeof value !== "string") return showText(jsonOf(value), maxLength);
  if (value.length <= maxLength) return escapeText(JSON.stringify(value));
  return escapeText(`${JSON.stringify(cut(value, maxLength))} ${lengthOf(value)}`);
}

/** `JSON.stringify` fails on a value that is nested too deeply for the stack, or that contains itself through YAML aliases. */
function jsonOf(value: unknown): string {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return `${Array.isArray(value) ? "a list" : "a mapping"} that is nested too deeply`;
  }
}

/** Formats the values from which a user chooses: "a, b or c". */
export function showChoices(choices: readonly string[]): string {
  return [choices.slice(0, -1).join(", "), ...choices.slice(-1)].filter((part) => part !== "").join(" or ");
}

/** Shortens untrusted text that is stored with an error to what a message can show, without escaping it. */
export function boundText(text: string): string {
  return shorten(text, MAX_PATH_LENGTH);
}

/** The suffix of a shortened text. */
const LENGTH_NOTE = / \(\d+ characters\)$/;

/** Text that was already shortened keeps the note of its original length. */
function shorten(text: string, maxLength: number): string {
  if (text.length <= maxLength) return text;
  const [note] = LENGTH_NOTE.exec(text.slice(-MAX_VALUE_LENGTH)) ?? [];
  return note === undefined ? `${cut(text, maxLength)} ${lengthOf(text)}` : cut(text.slice(0, -note.length), maxLength) + note;
}

/**
 * Returns the first `length` * 3/4 characters and the last `length` / 4, without splitting a surrogate pair. The result is copied, because V8's substrings
 * keep the whole string in memory.
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
