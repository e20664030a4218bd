import { NextvladError } from "../../base/errors.js";
import { showValue } from "../../base/shown-value.js";
import type { FileReader } from "./file-reader.js";

const BLOCK_BYTES = 512;
/** Maximum size of a long name or a pax header, which contain paths. */
const MAX_HEADER_TEXT_BYTES = 1 << 16;
/** Maximum length of a name in messages. */
const MAX_NAME_LENGTH = 255;
/** Maximum number of headers, of any type; the published weights have a hundred or so. */
const MAX_ENTRIES = 10_000;

/** A regular file in a tar. */
export interface TarEntry {
  /** The whole name: relative, without `..`. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Fills the target with the file's next bytes and returns the number of bytes read. Valid until the next entry is requested. */
  read(target: Uint8Array): Promise<number>;
}

/** Whether a file's first 512 bytes are a tar header, by its checksum. */
export function looksLikeTar(head: Uint8Array): boolean {
  return head.length >= BLOCK_BYTES && head.some((byte) => byte !== 0) && hasValidChecksum(head.subarray(0, BLOCK_BYTES));
}

/**
 * Reads a tar's regular files in order, as a stream: V7, ustar, pax and GNU headers (POSIX.1-2017, pax; GNU tar manual, "Basic Tar Format"). Writes no files,
 * but still rejects absolute names and names with `..`. Skips links, devices, and the unread part of an entry. Throws BAD_FORMAT, FILE_UNREADABLE.
 */
export async function* readTar(bytes: FileReader): AsyncGenerator<TarEntry> {
  let longName: string | null = null;
  let longSizeBytes: number | null = null;
  for (let entries = 1; ; entries++) {
    const start = bytes.position;
    const header = await readHeader(bytes);
    if (header === null) return;
    if (entries > MAX_ENTRIES) throw tooManyEntries(bytes, start);
    const type = String.fromCharCode(header[156] as number);
    const sizeBytes = longSizeBytes ?? ("123456".includes(type) ? 0 : parseNumber(header.subarray(124, 136), bytes, start));
    if (sizeBytes > bytes.maxBytes - bytes.position) throw corrupt(bytes, start, `an entry of ${sizeBytes} bytes exceeds the file`);
    if (type === "L" || type === "x") {
      const text = await readText(bytes, sizeBytes, start);
      if (type === "L") longName = text.replace(/\0.*$/s, "");
      else {
        const fields = parsePax(text, bytes, start);
        longName = fields.get("path") ?? longName;
        const size = fields.get("size");
        if (size !== undefined) longSizeBytes = parsePaxSize(size, bytes, start);
      }
      continue;
    }
    const name = longName ?? headerName(header);
    longName = null;
    longSizeBytes = null;
    rejectUnsafePath(name, bytes, start);
    const end = bytes.position + Math.ceil(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES;
    const dataEnd = bytes.position + sizeBytes;
    if (type === "0" || type === "\0" || type === "7") {
      const read = async (target: Uint8Array): Promise<number> => {
        const wanted = Math.min(target.length, dataEnd - bytes.position);
        const length = await bytes.read(target.subarray(0, wanted));
        if (length < wanted) throw truncated(bytes);
        return length;
      };
      yield { name, sizeBytes, read };
    }
    const rest = end - bytes.position;
    if ((await bytes.skip(rest)) < rest) throw truncated(bytes);
  }
}

/** Reads the next header; returns null at the end, which a block of zeros marks. */
async function readHeader(bytes: FileReader): Promise<Uint8Array | null> {
  const header = new Uint8Array(BLOCK_BYTES);
  const start = bytes.position;
  if ((await bytes.read(header)) < BLOCK_BYTES) throw truncated(bytes);
  if (header.every((byte) => byte === 0)) return null;
  if (!hasValidChecksum(header)) throw corrupt(bytes, start, "an entry's checksum does not match");
  return header;
}

/** Compares the checksum with the sum of the header's bytes, its own field as spaces; some old writers summed signed bytes. */
function hasValidChecksum(header: Uint8Array): boolean {
  const stored = /^\s*([0-7]+)/.exec(latin1(header.subarray(148, 156)))?.[1];
  if (stored === undefined) return false;
  let unsigned = 0;
  let signed = 0;
  for (const [i, byte] of header.entries()) {
    const value = i >= 148 && i < 156 ? 0x20 : byte;
    unsigned += value;
    signed += value >= 0x80 ? value - 0x100 : value;
  }
  const sum = Number.parseInt(stored, 8);
  return sum === unsigned || sum === signed;
}

/** Parses a size: octal digits, or GNU's base 256 after a byte of 0x80. */
function parseNumber(field: Uint8Array, bytes: FileReader, start: number): number {
  if (field[0] === 0x80) {
    const value = field.subarray(1).reduce((sum, byte) => sum * 256 + byte, 0);
    if (Number.isSafeInteger(value)) return value;
  }
  const digits = /^[ \0]*([0-7]*)[ \0]*$/.exec(latin1(field))?.[1];
  if (digits === undefined) throw corrupt(bytes, start, "invalid entry size");
  return digits === "" ? 0 : Number.parseInt(digits, 8);
}

function headerName(header: Uint8Array): string {
  const name = cString(header.subarray(0, 100));
  // POSIX's ustar, whose magic ends in \0, has a prefix of the name here; GNU's, whose magic ends in spaces, has other fields.
  const isUstar = latin1(header.subarray(257, 263)) === "ustar\0";
  const prefix = isUstar ? cString(header.subarray(345, 500)) : "";
  return prefix === "" ? name : `${prefix}/${name}`;
}

async function readText(bytes: FileReader, sizeBytes: number, start: number): Promise<string> {
  if (sizeBytes > MAX_HEADER_TEXT_BYTES) throw corrupt(bytes, start, `a name or pax header of ${sizeBytes} bytes is too long`);
  const padded = new Uint8Array(Math.ceil(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES);
  if ((await bytes.read(padded)) < padded.length) throw truncated(bytes);
  return Buffer.from(padded.buffer, 0, sizeBytes).toString("utf8");
}

/** Parses the records of a pax header: "LENGTH KEY=VALUE\n"; the length is decimal and includes the whole record. */
function parsePax(records: string, bytes: FileReader, start: number): ReadonlyMap<string, string> {
  const fields = new Map<string, string>();
  const raw = Buffer.from(records, "utf8");
  for (let at = 0; at < raw.length; ) {
    const digits = /^(\d{1,6}) /.exec(raw.toString("latin1", at, at + 7))?.[1];
    const length = Number(digits);
    const record = raw.toString("utf8", at, at + length);
    const equals = record.indexOf("=");
    if (digits === undefined || at + length > raw.length || !record.endsWith("\n") || equals === -1) {
      throw corrupt(bytes, start, "invalid pax header");
    }
    fields.set(record.slice(digits.length + 1, equals), record.slice(equals + 1, -1));
    at += length;
  }
  return fields;
}

function parsePaxSize(size: string, bytes: FileReader, start: number): number {
  if (!/^\d{1,15}$/.test(size)) throw corrupt(bytes, start, "invalid entry size");
  return Number(size);
}

function rejectUnsafePath(name: string, bytes: FileReader, start: number): void {
  if (!name.startsWith("/") && !name.split("/").includes("..")) return;
  throw new NextvladError("BAD_FORMAT", `unsafe path in the tar file: ${showValue(name, MAX_NAME_LENGTH)}`, {
    file: bytes.file,
    byteOffset: start,
    remedy: "nothing was extracted; get the file from a source that you trust",
  });
}

function cString(field: Uint8Array): string {
  const end = field.indexOf(0);
  return Buffer.from(end === -1 ? field : field.subarray(0, end)).toString("utf8");
}

function latin1(field: Uint8Array): string {
  return Buffer.from(field).toString("latin1");
}

function corrupt(bytes: FileReader, byteOffset: number, what: string): NextvladError {
  const remedy = "download or copy the file again";
  return new NextvladError("BAD_FORMAT", `the tar file is corrupt: ${what}`, { file: bytes.file, byteOffset, remedy });
}

function tooManyEntries(bytes: FileReader, byteOffset: number): NextvladError {
  return new NextvladError("BAD_FORMAT", "too many entries in the tar file", {
    file: bytes.file,
    byteOffset,
    expected: `at most ${MAX_ENTRIES}`,
    found: "more",
    remedy: "unpack it and pass the directory with the variables",
  });
}

function truncated(bytes: FileReader): NextvladError {
  return corrupt(bytes, bytes.position, "it is truncated");
}
