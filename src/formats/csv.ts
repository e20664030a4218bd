import { NextvladError } from "../base/errors.js";
import { readLines } from "./lines.js";

/** A record of a CSV file. */
export interface CsvRecord {
  readonly fields: readonly string[];
  /** Where it starts, from 1. */
  readonly line: number;
}

/** The longest record that is read, in characters: a quote that is never closed must not gather a whole file. */
const MAX_RECORD_LENGTH = 1 << 24;

/**
 * Reads a CSV file record by record, in bounded memory (RFC 4180: commas, double quotes, line ends CRLF or LF; quoted fields may hold line feeds).
 * Blank lines are left out. A quote inside a field that does not start with one stands for itself, as in Python's csv.
 * Throws BAD_FORMAT and what `readLines` throws.
 */
export async function* readCsv(path: string): AsyncGenerator<CsvRecord, void> {
  let record: RecordParser | null = null;
  for await (const { text, number } of readLines(path)) {
    if (record === null && (text === "" || text === "\r")) continue;
    record ??= new RecordParser(path, number);
    if (!record.addLine(text)) continue;
    yield record;
    record = null;
  }
  if (record !== null) throw new NextvladError("BAD_FORMAT", "a quoted field is never closed", { file: path, line: record.line });
}

/** A field as it stands in a CSV file: in quotes where it must. */
export function csvField(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Takes a record's lines until it is whole. */
class RecordParser implements CsvRecord {
  readonly fields: string[] = [];
  readonly line: number;
  readonly #file: string;
  /** The pieces of the quoted field that is open, if one is. */
  #quoted: string[] | null = null;
  #length = 0;

  constructor(file: string, line: number) {
    this.#file = file;
    this.line = line;
  }

  /** Takes the record's next line; returns whether the record ends with it. */
  addLine(text: string): boolean {
    this.#length += text.length;
    if (this.#length > MAX_RECORD_LENGTH) throw this.#error("a record is too long", `at most ${MAX_RECORD_LENGTH} characters`, "more");
    const end = text.endsWith("\r") ? text.length - 1 : text.length;
    this.#quoted?.push("\n");
    let at = this.#quoted === null ? 0 : this.#takeQuoted(text, 0, end, this.#quoted);
    while (at >= 0 && at <= end) {
      if (text[at] === '"') {
        this.#quoted = [];
        at = this.#takeQuoted(text, at + 1, end, this.#quoted);
      } else {
        at = this.#takePlain(text, at, end);
      }
    }
    return at >= 0;
  }

  /** Takes a field without quotes; returns where the next one starts: past the end after the last one. */
  #takePlain(text: string, start: number, end: number): number {
    const comma = text.indexOf(",", start);
    const stop = comma < 0 ? end : comma;
    this.fields.push(text.slice(start, stop));
    return stop + 1;
  }

  /** Takes a quoted field, or the part of it that the line holds; returns where the next field starts, or -1 where the quote is still open. */
  #takeQuoted(text: string, start: number, end: number, pieces: string[]): number {
    for (let at = start; ; ) {
      const quote = text.indexOf('"', at);
      pieces.push(text.slice(at, quote < 0 ? text.length : quote));
      if (quote < 0) return -1;
      at = quote + 1;
      if (text[at] !== '"') {
        this.fields.push(pieces.join(""));
        this.#quoted = null;
        if (at === end || text[at] === ",") return at + 1;
        throw this.#error("something follows a closing quote", "a comma or the line's end", JSON.stringify(text.slice(at, at + 20)));
      }
      pieces.push('"');
      at++;
    }
  }

  #error(what: string, expected: string, found: string): NextvladError {
    return new NextvladError("BAD_FORMAT", what, { file: this.#file, line: this.line, expected, found });
  }
}
