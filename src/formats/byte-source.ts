import { fileError } from "../base/errors.js";
import { openInput } from "../base/input.js";

/** Where a reader stands: the file, the record's number from 0, and the byte in the uncompressed file. */
export interface RecordPlace {
  readonly file: string;
  readonly record: number;
  readonly byteOffset: number;
}

/** Bytes that come piece by piece, one read at a time. */
export interface ByteSource {
  /** Bytes of the file on disk taken so far (of the compressed file, where it is one). */
  readonly filePosition: number;
  /** Fills the start of `target` and returns how many bytes that was; 0 only at the end. `at` is for the error, should there be one. */
  read(target: Uint8Array, at: RecordPlace): Promise<number>;
  close(): Promise<void>;
}

/** A source, and a look at its first bytes. */
export interface OpenedSource {
  readonly source: ByteSource;
  readonly head: Uint8Array;
}

/**
 * An open file by the means of reading it: `readAt` fills the start of `target` from a position in the file and returns how many bytes that was. Closes
 * it where the first bytes cannot be read. Throws FILE_UNREADABLE for what `readAt` throws.
 */
export async function makeSource(
  path: string,
  file: { readAt(target: Uint8Array, position: number): number | Promise<number>; close(): Promise<void> },
  headBytes: number,
): Promise<OpenedSource> {
  const readAt = async (target: Uint8Array, position: number): Promise<number> => {
    try {
      return await file.readAt(target, position);
    } catch (error) {
      throw fileError(error, path, "read");
    }
  };
  try {
    const head = new Uint8Array(headBytes);
    const headLength = await readAt(head, 0);
    let position = 0;
    const source: ByteSource = {
      get filePosition() {
        return position;
      },
      async read(target) {
        const bytes = await readAt(target, position);
        position += bytes;
        return bytes;
      },
      close: () => file.close(),
    };
    return { source, head: head.subarray(0, headLength) };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** An open file as a source of its bytes, with a look at its first ones (up to `headBytes`). Throws FILE_MISSING, FILE_UNREADABLE. */
export async function openFileSource(path: string, headBytes: number): Promise<OpenedSource> {
  const handle = await openInput(path);
  const readAt = async (target: Uint8Array, position: number): Promise<number> =>
    (await handle.read(target, 0, target.length, position)).bytesRead;
  return makeSource(path, { readAt, close: () => handle.close() }, headBytes);
}
