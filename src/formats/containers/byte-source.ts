import { closeSync, readSync } from "node:fs";
import { fileError } from "../../base/errors.js";
import { openInput, openInputSync } from "../../base/input.js";

/** A reader's position: the file, the record's index (from 0), and the byte offset in the uncompressed file. */
export interface RecordPlace {
  readonly file: string;
  readonly record: number;
  readonly byteOffset: number;
}

/** A sequential source of bytes, read in pieces, one read at a time. */
export interface ByteSource {
  /** Bytes of the file on disk consumed so far (of the compressed file, if it is compressed). */
  readonly filePosition: number;
  /** Whether `filePosition` is the position of the next byte: false if the file is compressed. */
  readonly isExact: boolean;
  /** Fills the start of `target` and returns the number of bytes read; 0 only at the end. `at` is the position to report in errors. */
  read(target: Uint8Array, at: RecordPlace): Promise<number>;
  /** Moves the position forward, up to the end or past it, without reading if the file is not compressed. */
  skip(bytes: number, at: RecordPlace): Promise<void>;
  close(): Promise<void>;
}

let bytesRead = 0;

/** Returns the number of bytes that this thread has read from files through sources. */
export function countBytesRead(): number {
  return bytesRead;
}

/** A source and a copy of its first bytes, which the source still returns. */
export interface OpenedSource {
  readonly source: ByteSource;
  readonly head: Uint8Array;
}

/** Size of the first read of a file, which suffices for a shard of one clip. */
const FIRST_BYTES = 2 ** 14;

/**
 * Makes a source of an open file. `readAt` fills the start of `target` from a position in the file and returns the number of bytes read. Takes ownership of
 * the file, and closes it if the first bytes cannot be read. Its first read is of `firstBytes`, or of `headBytes` if that is more. Throws FILE_UNREADABLE if
 * `readAt` throws.
 */
export async function makeSource(
  path: string,
  file: { readAt(target: Uint8Array, position: number): number | Promise<number>; close(): Promise<void> },
  headBytes: number,
  firstBytes = headBytes,
): Promise<OpenedSource> {
  const readAt = async (target: Uint8Array, position: number): Promise<number> => {
    try {
      const bytes = await file.readAt(target, position);
      bytesRead += bytes;
      return bytes;
    } catch (error) {
      throw fileError(error, path, "read");
    }
  };
  try {
    const block = new Uint8Array(Math.max(headBytes, firstBytes));
    const first = block.subarray(0, await readAt(block, 0));
    let position = 0;
    const source: ByteSource = {
      get filePosition() {
        return position;
      },
      isExact: true,
      async read(target) {
        const known = first.subarray(position, position + target.length);
        target.set(known);
        const bytes = known.length > 0 ? known.length : await readAt(target, position);
        position += bytes;
        return bytes;
      },
      async skip(bytes) {
        position += bytes;
      },
      close: () => file.close(),
    };
    return { source, head: first.slice(0, headBytes) };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Opens a file as a byte source and reads its first bytes (up to `headBytes`). Throws FILE_MISSING, FILE_UNREADABLE. */
export async function openFileSource(path: string, headBytes: number): Promise<OpenedSource> {
  const handle = await openInput(path);
  const readAt = async (target: Uint8Array, position: number): Promise<number> =>
    (await handle.read(target, 0, target.length, position)).bytesRead;
  return makeSource(path, { readAt, close: () => handle.close() }, headBytes, FIRST_BYTES);
}

/**
 * Opens a file like `openFileSource`, but reads it with blocking calls: for a thread with no other work, which saves a round trip to the thread pool per read.
 * Throws FILE_MISSING, FILE_UNREADABLE.
 */
export async function openBlockingSource(path: string, headBytes: number): Promise<OpenedSource> {
  const file = openInputSync(path);
  const readAt = (target: Uint8Array, position: number): number => readSync(file, target, 0, target.length, position);
  return makeSource(path, { readAt, close: async () => closeSync(file) }, headBytes, FIRST_BYTES);
}
