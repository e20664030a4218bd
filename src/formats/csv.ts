import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { fileError, NextvladError } from "../base/errors.js";
import { readPieces } from "../base/input.js";

/** A record of a CSV file. */
export interface CsvRecord {
  readonly fields: readonly string[];
  /** The line on which the record ends, from 1. */
  readonly line: number;
}

export interface CsvOptions {
  /** Reads the bytes of the file; the default rejects pipes. */
  readonly read?: (path: string) => AsyncIterable<Uint8Array>;
  /** How records may end; an empty list means as the first one does. Default: CRLF or LF. */
  readonly lineEnds?: string[];
  /** Whether to remove white space around fields, outside of quotes. Default: false. */
  readonly trim?: boolean;
  /** What to do about a file that is not CSV: a sentence without the closing period. */
  readonly remedy?: string;
}

/** Maximum record size in bytes: an unclosed quote must not buffer the whole file. */
const MAX_RECORD_BYTES = 1 << 24;
/**
 * The parser parses a piece as a whole before it returns the first record, and takes 50 us for each record of another length than the first. With small pieces,
 * a consumer that rejects the first such record does so at once.
 */
const PIECE_BYTES = 1 << 14;

/**
 * Reads a UTF-8 CSV file record by record, in bounded memory (RFC 4180: commas, double quotes; quoted fields may contain line feeds). Skips blank lines.
 * Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT (not CSV, not UTF-8, or a record longer than `MAX_RECORD_BYTES`).
 */
export async function* readCsv(
  path: string,
  { read = readPieces, lineEnds = ["\r\n", "\n"], trim = false, remedy = "check the file" }: CsvOptions = {},
): AsyncGenerator<CsvRecord, void> {
  const { CsvError, parse } = await import("csv-parse");
  const parser = parse({
    bom: true,
    info: true,
    record_delimiter: lineEnds,
    relax_column_count: true,
    skip_empty_lines: true,
    trim,
    max_record_size: MAX_RECORD_BYTES,
  });
  // An error of the input also ends the parser and is handled below, so it is ignored here.
  pipeline(Readable.from(decode(read(path), path)), parser).catch(() => undefined);
  try {
    for await (const { record, info } of parser) yield { fields: record, line: info.lines };
  } catch (error) {
    if (!(error instanceof CsvError)) throw fileError(error, path, "read");
    throw new NextvladError("BAD_FORMAT", `not a CSV file: ${error.message.replace(/\.$/, "")}`, { file: path, remedy }, error);
  }
}

async function* decode(pieces: AsyncIterable<Uint8Array>, path: string): AsyncGenerator<string, void> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const decodePiece = (bytes?: Uint8Array): string => {
    try {
      return decoder.decode(bytes, { stream: bytes !== undefined });
    } catch (error) {
      throw new NextvladError("BAD_FORMAT", "not UTF-8 text", { file: path, remedy: "save the file as UTF-8" }, error);
    }
  };
  for await (const bytes of pieces) {
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) yield decodePiece(bytes.subarray(at, at + PIECE_BYTES));
  }
  yield decodePiece();
}

/** Returns a CSV field, quoted if necessary. */
export function csvField(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
