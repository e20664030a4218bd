import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { CsvError, parse } from "csv-parse";
import { fileError, NextvladError } from "../base/errors.js";
import { readPieces } from "../base/input.js";

/** A record of a CSV file. */
export interface CsvRecord {
  readonly fields: readonly string[];
  /** The line on which the record ends, from 1. */
  readonly line: number;
}

/** Maximum record size in bytes: an unclosed quote must not buffer the whole file. */
const MAX_RECORD_BYTES = 1 << 24;

/**
 * Reads a UTF-8 CSV file record by record, in bounded memory (RFC 4180: commas, double quotes, line ends CRLF or LF; quoted fields may contain line feeds).
 * Skips blank lines. Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT (not CSV, not UTF-8, or a record longer than `MAX_RECORD_BYTES`).
 */
export async function* readCsv(path: string): AsyncGenerator<CsvRecord, void> {
  const parser = parse({
    bom: true,
    info: true,
    record_delimiter: ["\r\n", "\n"],
    relax_column_count: true,
    skip_empty_lines: true,
    max_record_size: MAX_RECORD_BYTES,
  });
  // An error of the input also ends the parser and is handled below, so it is ignored here.
  pipeline(Readable.from(readText(path)), parser).catch(() => undefined);
  try {
    for await (const { record, info } of parser) yield { fields: record, line: info.lines };
  } catch (error) {
    if (!(error instanceof CsvError)) throw fileError(error, path, "read");
    throw new NextvladError("BAD_FORMAT", `this is no CSV file: ${error.message.replace(/\.$/, "")}`, { file: path }, error);
  }
}

async function* readText(path: string): AsyncGenerator<string, void> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const decode = (bytes?: Uint8Array): string => {
    try {
      return decoder.decode(bytes, { stream: bytes !== undefined });
    } catch (error) {
      throw new NextvladError("BAD_FORMAT", "this is no UTF-8 text", { file: path }, error);
    }
  };
  for await (const bytes of readPieces(path)) yield decode(bytes);
  yield decode();
}

/** Returns a CSV field, quoted if necessary. */
export function csvField(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
