import { NextvladError } from "../../base/errors.js";
import { type PositionedReader, readFully } from "../../base/input.js";
import { DEFAULT_MAX_RECORD_BYTES, LARGEST_MAX_RECORD_BYTES } from "../../base/numbers.js";
import { maskedCrc32c } from "../checksum.js";
import { type ByteSource, openFileSource, type RecordPlace } from "./byte-source.js";
import { type Compression, decompress, detectCompression } from "./compression.js";
import { detectFileType } from "./file-type.js";
import { RecordBuffer } from "./record-buffer.js";

/** One record of a TFRecord file. */
export interface TfRecord extends RecordPlace {
  /** The record's bytes, in the reader's own buffer: valid until the next record is requested. */
  readonly data: Uint8Array;
  /** Offset of `data` in the uncompressed file. */
  readonly byteOffset: number;
  /** Bytes of the file on disk up to this record's end; an estimate if the file is compressed. */
  readonly filePosition: number;
  /** Frees the memory of a long record before the next one is requested: `data` must not be used afterwards. */
  readonly release?: () => void;
}

/** Options for reading a TFRecord file. */
export interface ReadingOptions {
  /** Opens the file; the default reads asynchronously, for a thread with other work. */
  readonly openSource?: typeof openFileSource;
  /** Called for a record whose data do not match their checksum. The record is then skipped, unless this throws; without it, the error is thrown. */
  readonly onBadData?: (error: NextvladError) => void;
  /** Maximum length of a record; a longer one is an error. */
  readonly maxRecordBytes?: number | undefined;
  /** Records to skip by their headers; by default none. */
  readonly skip?: RecordSkip | undefined;
}

/** Records that are skipped by their headers: their data are not verified and, in a file that is not compressed, not read. */
export interface RecordSkip {
  /** Whether to skip the record with this index. */
  isSkipped(record: number): boolean;
  /** Returns the next record to read, this one or a later one, if its place in the file is known: the headers before it are not read either. */
  next?(record: number): PlacedRecord | null;
  /** Called after each skipped record of which the header was read, with its end on disk: see `TfRecord.filePosition`. It is exact in a file that is not compressed. */
  onSkipped(filePosition: number, isExact: boolean): void;
}

/** A record's index, and its offset and length with its framing, in bytes of the uncompressed file. */
export interface PlacedRecord {
  readonly record: number;
  readonly offset: number;
  readonly bytes: number;
}

/** Size of the header before the data: their length (8 bytes) and that length's checksum (4). */
const HEADER_BYTES = 12;
const CHECKSUM_BYTES = 4;
const HEAD_BYTES = 64;
/** Enough to recognize other file types, including tar archives. */
const TYPE_BYTES = 512;
const DOWNLOAD_AGAIN = "download the shard again";
const NOT_A_SHARD = "pass TFRecord shards or pickles (train0000.tfrecord, train0000.pkl)";

/**
 * Reads a TFRecord file, uncompressed, gzip or zlib (detected by content), record by record; verifies every checksum.
 * Framing: little-endian uint64 length, its masked CRC-32C, the data, its masked CRC-32C.
 * Throws FILE_MISSING, FILE_UNREADABLE, NOT_TFRECORD, CORRUPT_RECORD.
 */
export function readTfRecordFile(
  path: string,
  { openSource = openFileSource, ...options }: ReadingOptions = {},
): AsyncGenerator<TfRecord, void> {
  const open = async (): Promise<ByteSource> => {
    const { source, head } = await openSource(path, HEAD_BYTES);
    const compression = compressionOf(head);
    return compression === undefined ? source : decompress(source, compression);
  };
  return readTfRecords(open, path, options);
}

/**
 * Returns a file's compression by its first bytes. A length with a matching checksum takes precedence, then gzip's three bytes; zlib's two may also be those
 * of a corrupt length, unless the file is shorter than a record's header (an empty zlib stream has 8 bytes).
 */
export function compressionOf(head: Uint8Array): Compression | undefined {
  if (startsTfRecord(head)) return undefined;
  const compression = detectCompression(head);
  return compression === "zlib" && head.length >= HEADER_BYTES && looksLikeLength(head) ? undefined : compression;
}

/**
 * Opens a source of uncompressed bytes, reads its records, and closes it; `file` is its name in errors. Throws what `open` throws, NOT_TFRECORD,
 * CORRUPT_RECORD.
 */
export async function* readTfRecords(
  open: () => Promise<ByteSource>,
  file: string,
  { onBadData, maxRecordBytes = DEFAULT_MAX_RECORD_BYTES, skip }: Omit<ReadingOptions, "openSource"> = {},
): AsyncGenerator<TfRecord, void> {
  const source = await open();
  const buffer = new RecordBuffer(source);
  let taken = 0;
  const release = (): void => {
    buffer.skip(taken);
    taken = 0;
  };
  /** Bytes to read while records are skipped: one read costs about as much for a block, which contains many headers of short records, as for one header. */
  let headerBlock = BLOCK_BYTES;
  try {
    for (let record = 0; ; record++) {
      const next = skip?.next?.(record) ?? null;
      if (next !== null) {
        await buffer.seek(next.offset - buffer.offset, { file, record, byteOffset: buffer.offset });
        record = next.record;
      }
      const at = { file, record, byteOffset: buffer.offset };
      const isSkipped = skip?.isSkipped(record) ?? false;
      if (buffer.available < HEADER_BYTES) await buffer.fill(HEADER_BYTES, at, isSkipped ? headerBlock : next?.bytes);
      // A file, or a compressed stream, of 0 bytes holds 0 records: Beam and TensorFlow write such shards.
      if (buffer.available === 0) return;
      const length = readLength(buffer, at, maxRecordBytes);
      const recordBytes = HEADER_BYTES + length + CHECKSUM_BYTES;
      if (skip !== undefined && isSkipped) {
        headerBlock = recordBytes < BLOCK_BYTES ? BLOCK_BYTES : CHECKSUM_BYTES + HEADER_BYTES;
        // The last bytes are read, to notice a file that ends inside the record.
        await buffer.seek(HEADER_BYTES + length, at);
        if (buffer.available < CHECKSUM_BYTES) await buffer.fill(CHECKSUM_BYTES, at, headerBlock);
        if (buffer.available < CHECKSUM_BYTES) throw truncated(at, recordBytes, "fewer");
        buffer.skip(CHECKSUM_BYTES);
        skip.onSkipped(Math.round(source.filePosition * (buffer.offset / (buffer.offset + buffer.available))), source.isExact);
        continue;
      }
      if (buffer.available < recordBytes) await buffer.fill(recordBytes, at, next?.bytes);
      if (buffer.available < recordBytes) throw truncated(at, recordBytes, buffer.available);
      const data = buffer.slice(HEADER_BYTES, HEADER_BYTES + length);
      taken = recordBytes;
      const stored = buffer.uint32(HEADER_BYTES + length);
      const computed = maskedCrc32c(data);
      if (stored === computed) {
        const share = (at.byteOffset + recordBytes) / (at.byteOffset + buffer.available);
        yield {
          data,
          file,
          record,
          byteOffset: at.byteOffset + HEADER_BYTES,
          filePosition: Math.round(source.filePosition * share),
          release,
        };
      } else {
        const error = badChecksum("data", at, stored, computed);
        if (onBadData === undefined) throw error;
        onBadData(error);
      }
      release();
    }
  } finally {
    buffer.close();
    await source.close();
  }
}

/** Returns the length at the buffer's start, after verifying its checksum and the maximum. */
function readLength(buffer: RecordBuffer, at: RecordPlace, maxRecordBytes: number): number {
  const { available } = buffer;
  if (available < HEADER_BYTES || buffer.uint32(8) !== maskedCrc32c(buffer.slice(0, 8))) {
    if (at.record === 0) throw notTfRecord(buffer.slice(0, Math.min(available, TYPE_BYTES)), at.file);
    if (available < HEADER_BYTES) throw truncated(at, HEADER_BYTES, available);
    throw badChecksum("length", at, buffer.uint32(8), maskedCrc32c(buffer.slice(0, 8)));
  }
  const length = buffer.uint32(4) * 2 ** 32 + buffer.uint32(0);
  if (length > maxRecordBytes) throw tooLong(at, length, maxRecordBytes);
  return length;
}

/** Whether a file starts with a record header: a length with a matching checksum. */
export function startsTfRecord(head: Uint8Array): boolean {
  return head.length >= HEADER_BYTES && viewOf(head).getUint32(8, true) === maskedCrc32c(head.subarray(0, 8));
}

/** Whether a file starts with a record header, or with what may be a corrupt one: a plausible length. */
export function mayStartTfRecord(head: Uint8Array): boolean {
  return startsTfRecord(head) || looksLikeLength(head);
}

/** A length under 4 GB has four zero bytes; with one of them corrupt, still three. */
function looksLikeLength(head: Uint8Array): boolean {
  return head.length >= 8 && head.subarray(4, 8).filter((byte) => byte === 0).length >= 3;
}

/** Returns NOT_TFRECORD for a file whose first record header fails its checksum: whatever its type, nothing in it can be read as records. */
function notTfRecord(head: Uint8Array, file: string): NextvladError {
  const type = detectFileType(head);
  if (type !== null) {
    return new NextvladError("NOT_TFRECORD", `this is ${type.name}, not a TFRecord file`, { file, byteOffset: 0, remedy: type.remedy });
  }
  const start = head.subarray(0, HEAD_BYTES);
  const isText = start.every((byte) => (byte >= 0x20 && byte !== 0x7f) || byte === 0x09 || byte === 0x0a || byte === 0x0d);
  if (isText) {
    const firstLine = new TextDecoder().decode(start).split(/[\r\n]/, 1)[0] as string;
    return new NextvladError("NOT_TFRECORD", "this is a text file, not a TFRecord file", {
      file,
      byteOffset: 0,
      found: JSON.stringify(firstLine.slice(0, 40)),
      remedy: `${NOT_A_SHARD}; a list of shards goes in filelist; if this is a web page, the download failed`,
    });
  }
  const found = Array.from(head.subarray(0, HEADER_BYTES), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return new NextvladError("NOT_TFRECORD", "not a TFRecord file, or its first bytes are corrupt", {
    file,
    byteOffset: 0,
    expected: "a record length and its checksum",
    found,
    remedy: `${NOT_A_SHARD}, ${DOWNLOAD_AGAIN}, or remove it from the list`,
  });
}

/** The error for a record longer than the limit. */
export function tooLong(at: RecordPlace, length: number, maxRecordBytes: number): NextvladError {
  const raise = `; if its records are this long, use --max-record-bytes (or --set MODEL.max_record_bytes=SIZE)`;
  return new NextvladError("CORRUPT_RECORD", "the record's length exceeds the maximum", {
    ...at,
    expected: `at most ${maxRecordBytes} bytes`,
    found: `${length} bytes`,
    remedy: length <= LARGEST_MAX_RECORD_BYTES ? `${DOWNLOAD_AGAIN}${raise}` : DOWNLOAD_AGAIN,
    damaged: "rest of shard",
  });
}

function truncated(at: RecordPlace, expected: number, found: number | "fewer"): NextvladError {
  return new NextvladError("CORRUPT_RECORD", "the file ends in the middle of a record", {
    ...at,
    expected: `${expected} bytes`,
    found: `${found} bytes`,
    remedy: `${DOWNLOAD_AGAIN}: it is truncated`,
    damaged: "rest of shard",
  });
}

function badChecksum(of: "length" | "data", at: RecordPlace, stored: number, computed: number): NextvladError {
  const hex = (value: number) => `0x${value.toString(16).padStart(8, "0")}`;
  return new NextvladError("CORRUPT_RECORD", `the checksum of the record's ${of} does not match`, {
    ...at,
    expected: hex(stored),
    found: hex(computed),
    remedy: `${DOWNLOAD_AGAIN}: its bytes have changed`,
    damaged: of === "data" ? "record" : "rest of shard",
  });
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Encodes one record of a TFRecord file: see `readTfRecordFile`. */
export function encodeTfRecord(data: Uint8Array): Uint8Array {
  const framed = new Uint8Array(HEADER_BYTES + data.length + CHECKSUM_BYTES);
  const header = viewOf(framed);
  header.setBigUint64(0, BigInt(data.length), true);
  header.setUint32(8, maskedCrc32c(framed.subarray(0, 8)), true);
  framed.set(data, HEADER_BYTES);
  header.setUint32(HEADER_BYTES + data.length, maskedCrc32c(data), true);
  return framed;
}

/** Reading this many bytes costs about as much as reading one header; a block contains many headers of short records. */
const BLOCK_BYTES = 64 * 1024;

/**
 * How a walk ended: "complete" at the file's end, "interrupted" before it because `isOver` returned true, "skipped" if the file is not an uncompressed TFRecord
 * file.
 */
export type WalkEnd = "complete" | "interrupted" | "skipped";

/**
 * Walks an uncompressed TFRecord file from record header to record header: checks each length and its checksum, and that the file does not end inside a
 * record. Does not read the data of records longer than a block. Throws CORRUPT_RECORD, and what reading throws.
 */
export async function walkRecordHeaders(
  reader: PositionedReader,
  { path: file, bytes: size }: { readonly path: string; readonly bytes: number },
  isOver: () => boolean,
  maxRecordBytes = DEFAULT_MAX_RECORD_BYTES,
): Promise<WalkEnd> {
  const block = Buffer.allocUnsafe(Math.min(BLOCK_BYTES, size));
  const read = async (position: number, maxBytes: number): Promise<Buffer> =>
    block.subarray(0, await readFully(reader, block.subarray(0, maxBytes), position));
  let loaded = await read(0, BLOCK_BYTES);
  let loadedAt = 0;
  if (!startsTfRecord(loaded)) return "skipped";
  let position = 0;
  let recordBytes = 0;
  for (let record = 0; position < size; record++) {
    if (isOver()) return "interrupted";
    const at: RecordPlace = { file, record, byteOffset: position };
    if (position + HEADER_BYTES > loadedAt + loaded.length) {
      loaded = await read(position, recordBytes < BLOCK_BYTES ? BLOCK_BYTES : HEADER_BYTES);
      loadedAt = position;
    }
    const header = loaded.subarray(position - loadedAt, position - loadedAt + HEADER_BYTES);
    if (header.length < HEADER_BYTES) throw truncated(at, HEADER_BYTES, header.length);
    const [stored, computed] = [header.readUInt32LE(8), maskedCrc32c(header.subarray(0, 8))];
    if (stored !== computed) throw badChecksum("length", at, stored, computed);
    const length = header.readUInt32LE(4) * 2 ** 32 + header.readUInt32LE(0);
    if (length > maxRecordBytes) throw tooLong(at, length, maxRecordBytes);
    recordBytes = HEADER_BYTES + length + CHECKSUM_BYTES;
    if (position + recordBytes > size) throw truncated(at, recordBytes, size - position);
    position += recordBytes;
  }
  return "complete";
}
