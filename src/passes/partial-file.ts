import { constants as FLAGS } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { crc32c } from "@node-rs/crc32";
import { fileError, NextvladError } from "../base/errors.js";
import { CREATE_NEW } from "../base/files.js";
import { readFully } from "../base/input.js";

/** Length and CRC-32C of a file's content at some point in time. */
export interface FileMark {
  readonly bytes: number;
  readonly crc32c: number;
}

const PIECE_BYTES = 1 << 20;

/**
 * An append-only file that can be resumed after its process was killed; `reopen` drops what was written after the last mark.
 * An error leaves the file as it is. All methods but `close` throw FILE_UNWRITABLE.
 */
export class PartialFile {
  readonly path: string;
  readonly #handle: FileHandle;
  #bytes: number;
  #crc32c: number;

  private constructor(path: string, handle: FileHandle, mark: FileMark) {
    this.path = path;
    this.#handle = handle;
    this.#bytes = mark.bytes;
    this.#crc32c = mark.crc32c;
  }

  /** Creates a new file. Throws FILE_UNWRITABLE also if the name exists. */
  static async create(path: string): Promise<PartialFile> {
    try {
      return new PartialFile(path, await open(path, CREATE_NEW), { bytes: 0, crc32c: 0 });
    } catch (error) {
      throw fileError(error, path, "write");
    }
  }

  /**
   * Opens a file and truncates it to a mark. Passes its content up to the mark to `pass`, in pieces that are valid only during the call. Throws BAD_RESULTS if
   * the file is missing or its content does not match the mark, FILE_UNREADABLE, FILE_UNWRITABLE.
   */
  static async reopen(path: string, mark: FileMark, pass: (piece: Uint8Array) => void): Promise<PartialFile> {
    let handle: FileHandle | undefined;
    try {
      handle = await open(path, FLAGS.O_RDWR | FLAGS.O_NOFOLLOW | FLAGS.O_NONBLOCK);
      if (!(await handle.stat()).isFile()) throw replaced(path);
      await readMarked(handle, path, mark, pass).catch((error: unknown) => {
        throw fileError(error, path, "read");
      });
      await handle.truncate(mark.bytes);
      return new PartialFile(path, handle, mark);
    } catch (error) {
      await handle?.close().catch(() => undefined);
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ELOOP") throw replaced(path);
      throw code === "ENOENT" ? missing(path, error) : fileError(error, path, "write");
    }
  }

  /** Appends to the file. One write at a time. */
  async write(content: string | Uint8Array): Promise<void> {
    const bytes = typeof content === "string" ? Buffer.from(content, "utf8") : content;
    try {
      // Written at a position, so that the remains of a failed write are overwritten.
      for (let done = 0; done < bytes.length; ) {
        done += (await this.#handle.write(bytes, done, bytes.length - done, this.#bytes + done)).bytesWritten;
      }
    } catch (error) {
      throw fileError(error, this.path, "write");
    }
    this.#bytes += bytes.length;
    this.#crc32c = crc32c(bytes, this.#crc32c);
  }

  /** Flushes the file to the disk; returns the mark of everything written so far. */
  async sync(): Promise<FileMark> {
    try {
      await this.#handle.sync();
    } catch (error) {
      throw fileError(error, this.path, "write");
    }
    return { bytes: this.#bytes, crc32c: this.#crc32c };
  }

  /** Closes the file. May be called again. Never throws. */
  async close(): Promise<void> {
    await this.#handle.close().catch(() => undefined);
  }
}

async function readMarked(handle: FileHandle, path: string, mark: FileMark, pass: (piece: Uint8Array) => void): Promise<void> {
  const piece = new Uint8Array(PIECE_BYTES);
  let [bytes, crc] = [0, 0];
  while (bytes < mark.bytes) {
    const filled = await readFully(handle, piece.subarray(0, mark.bytes - bytes), bytes);
    if (filled === 0) throw damaged(path, `${mark.bytes} bytes`, bytes);
    crc = crc32c(piece.subarray(0, filled), crc);
    bytes += filled;
    pass(piece.subarray(0, filled));
  }
  if (crc !== mark.crc32c) throw damaged(path, `checksum ${mark.crc32c}`, crc);
}

const REMEDY = "start from the beginning, without --resume";

function damaged(file: string, expected: string, found: number): NextvladError {
  return new NextvladError("BAD_RESULTS", "the partial results have changed since they were saved", {
    file,
    expected,
    found,
    remedy: REMEDY,
  });
}

function replaced(file: string): NextvladError {
  return new NextvladError("BAD_RESULTS", "a file of the partial results is not a regular file", { file, remedy: REMEDY });
}

function missing(file: string, cause: unknown): NextvladError {
  return new NextvladError("BAD_RESULTS", "a file of the partial results is missing", { file, remedy: REMEDY }, cause);
}
