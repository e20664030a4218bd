import { constants } from "node:buffer";
import { stat } from "node:fs/promises";
import { fileError, NextvladError } from "../../base/errors.js";
import { requireMemory } from "../../base/resource-limits.js";
import { type ByteSource, openFileSource } from "./byte-source.js";
import { decompress, detectCompression } from "./compression.js";

/** Enough to detect the file type. */
const HEAD_BYTES = 1024;
const PIECE_BYTES = 1 << 20;
/** Deflate's maximum compression ratio is 1,032 to 1. */
const MAX_DEFLATE_RATIO = 1032;
/** Weights hardly compress: gzip data that expand to more than this size and to more than `MAX_EXPANSION` times their own are not a weights file. */
const FREE_EXPANSION_BYTES = 2 ** 26;
const MAX_EXPANSION = 100;

/** A sequential reader of a file's bytes that decompresses gzip (detected by content) while it reads. Close it after use. */
export class FileReader {
  readonly file: string;
  readonly compressed: boolean;
  /** Upper bound on the number of bytes: the file size, or the size that gzip data of this length can expand to. */
  readonly maxBytes: number;
  /** Bytes read so far. */
  position = 0;
  #head: Uint8Array = new Uint8Array();
  readonly #source: ByteSource;

  private constructor(file: string, source: ByteSource, compressed: boolean, sizeBytes: number) {
    this.file = file;
    this.#source = source;
    this.compressed = compressed;
    this.maxBytes = compressed ? sizeBytes * MAX_DEFLATE_RATIO : sizeBytes;
  }

  /** Opens a file. Throws FILE_MISSING, FILE_UNREADABLE, and BAD_FORMAT if the first bytes of a gzip file are corrupt. */
  static async open(file: string): Promise<FileReader> {
    const { size } = await stat(file).catch((error: unknown) => {
      throw fileError(error, file, "read");
    });
    const { source, head } = await openFileSource(file, HEAD_BYTES);
    const compressed = detectCompression(head) === "gzip";
    const bytes = new FileReader(file, compressed ? decompress(source, "gzip") : source, compressed, size);
    try {
      const first = new Uint8Array(HEAD_BYTES);
      bytes.#head = first.subarray(0, await bytes.#fill(first));
      return bytes;
    } catch (error) {
      await bytes.close();
      throw error;
    }
  }

  /** The unread rest of the file's first 1,024 bytes; does not consume them. */
  get head(): Uint8Array {
    return this.#head;
  }

  /** Fills the target and returns the number of bytes read; fewer than its length only at the end. Throws FILE_UNREADABLE, BAD_FORMAT. */
  async read(target: Uint8Array): Promise<number> {
    const kept = Math.min(target.length, this.#head.length);
    target.set(this.#head.subarray(0, kept));
    this.#head = this.#head.subarray(kept);
    const length = kept + (kept < target.length ? await this.#fill(target.subarray(kept)) : 0);
    this.position += length;
    return length;
  }

  /** Skips bytes and returns how many were skipped; fewer than `length` only at the end. */
  async skip(length: number): Promise<number> {
    const piece = new Uint8Array(Math.min(length, PIECE_BYTES));
    let done = 0;
    while (done < length) {
      const wanted = Math.min(piece.length, length - done);
      const bytes = await this.read(piece.subarray(0, wanted));
      done += bytes;
      if (bytes < wanted) break;
    }
    return done;
  }

  /**
   * Reads all remaining bytes into new memory. `check` is called with each piece as it arrives and may throw. Throws BAD_FORMAT if there are more bytes than
   * one array can hold or if gzip data expand too much, OUT_OF_MEMORY, and what `check` throws.
   */
  async readAll(check: (piece: Uint8Array) => void = () => undefined): Promise<Uint8Array> {
    if (!this.compressed) {
      this.#requireLength(this.maxBytes - this.position);
      requireMemory("reading this file", { file: this.maxBytes - this.position });
      const all = new Uint8Array(this.maxBytes - this.position);
      let length = 0;
      for (let last = PIECE_BYTES; last === PIECE_BYTES; length += last) {
        const piece = all.subarray(length, length + PIECE_BYTES);
        last = await this.read(piece);
        check(piece.subarray(0, last));
      }
      return all.subarray(0, length);
    }
    const pieces: Uint8Array[] = [];
    let total = 0;
    for (let last = PIECE_BYTES; last === PIECE_BYTES; ) {
      const piece = new Uint8Array(PIECE_BYTES);
      last = await this.read(piece);
      check(piece.subarray(0, last));
      pieces.push(piece.subarray(0, last));
      total += last;
      this.#requireExpansion(total);
      this.#requireLength(total);
    }
    requireMemory("reading this file", { "unpacked file": total });
    const all = new Uint8Array(total);
    let at = 0;
    for (const piece of pieces) {
      all.set(piece, at);
      at += piece.length;
    }
    return all;
  }

  async close(): Promise<void> {
    await this.#source.close();
  }

  #requireExpansion(length: number): void {
    const packedBytes = this.maxBytes / MAX_DEFLATE_RATIO;
    if (length <= Math.max(FREE_EXPANSION_BYTES, MAX_EXPANSION * packedBytes)) return;
    throw new NextvladError("BAD_FORMAT", "the gzip data expands too much", {
      file: this.file,
      expected: `at most ${MAX_EXPANSION} times ${packedBytes} bytes`,
      found: "more",
      remedy: "pass a weights file; if this is one, unpack it with gunzip first",
    });
  }

  #requireLength(length: number): void {
    if (length <= constants.MAX_LENGTH) return;
    const details = { file: this.file, expected: `at most ${constants.MAX_LENGTH} bytes`, found: length };
    throw new NextvladError("BAD_FORMAT", "the file is too large for memory", details);
  }

  /** Reads from the source until the target is full or the source ends. */
  async #fill(target: Uint8Array): Promise<number> {
    const at = { file: this.file, record: 0, byteOffset: this.position };
    let done = 0;
    while (done < target.length) {
      const bytes = await this.#source.read(target.subarray(done), at).catch((error: unknown) => {
        throw this.#asBadFormat(error);
      });
      if (bytes === 0) break;
      done += bytes;
    }
    return done;
  }

  /** The decompressor's errors are about shards and records: converts CORRUPT_RECORD to BAD_FORMAT. */
  #asBadFormat(error: unknown): unknown {
    if (!(error instanceof NextvladError) || error.code !== "CORRUPT_RECORD") return error;
    const details = { file: this.file, byteOffset: this.position, remedy: "download or copy the file again" };
    return new NextvladError("BAD_FORMAT", error.what, details, error);
  }
}
