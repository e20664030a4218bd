import { constants as FLAGS } from "node:fs";
import { type FileHandle, lstat, open } from "node:fs/promises";
import { fileError } from "../base/errors.js";
import { CREATE_NEW } from "../base/files.js";
import { readFully } from "../base/input.js";
import { crc32c } from "../formats/crc32.js";
import { badResults } from "./partial-state.js";

/** Length and CRC-32C of a file's content at some point in time. */
export interface FileMark {
  readonly bytes: number;
  readonly crc32c: number;
}

const APPEND = FLAGS.O_RDWR | FLAGS.O_APPEND | FLAGS.O_NOFOLLOW | FLAGS.O_NONBLOCK;
const PIECE_BYTES = 1 << 20;

/** An append-only file that can be resumed after its process was killed: reopening drops what was written after the last mark. An error leaves it as it is. */
export class PartialFile {
  readonly path: string;
  readonly #handle: FileHandle;
  #written: FileMark;

  private constructor(path: string, handle: FileHandle, written: FileMark) {
    this.path = path;
    this.#handle = handle;
    this.#written = written;
  }

  /** Creates a file. Throws FILE_UNWRITABLE, also if the name exists. */
  static async create(path: string): Promise<PartialFile> {
    const handle = await open(path, CREATE_NEW).catch(cannotWrite(path));
    return new PartialFile(path, handle, { bytes: 0, crc32c: 0 });
  }

  /**
   * Opens a file and truncates it to a mark. Passes its content up to the mark to `restore`, in pieces of 1 MiB (the last may be shorter) that are valid only
   * during the call. Throws BAD_RESULTS if the file is missing or its content does not match the mark, FILE_UNREADABLE.
   */
  static async reopen(path: string, mark: FileMark, restore: (piece: Uint8Array) => void = () => undefined): Promise<PartialFile> {
    const found = await lstat(path).catch(() => null);
    if (!found?.isFile()) throw badResults(`a file of the partial results is ${found === null ? "missing" : "not a regular file"}`, path);
    let handle: FileHandle | undefined;
    try {
      handle = await open(path, APPEND);
      await readMarked(handle, path, mark, restore);
      await handle.truncate(mark.bytes);
      return new PartialFile(path, handle, mark);
    } catch (error) {
      await handle?.close().catch(() => undefined);
      throw fileError(error, path, "read");
    }
  }

  /** Appends to the file. One write at a time, and none after an error. Throws FILE_UNWRITABLE. */
  async write(content: string | Uint8Array): Promise<void> {
    const bytes = typeof content === "string" ? Buffer.from(content, "utf8") : content;
    await this.#handle.writeFile(bytes).catch(cannotWrite(this.path));
    this.#written = { bytes: this.#written.bytes + bytes.length, crc32c: crc32c(bytes, this.#written.crc32c) };
  }

  /** Flushes the file to the disk; returns the mark of everything written so far. Throws FILE_UNWRITABLE. */
  async sync(): Promise<FileMark> {
    await this.#handle.sync().catch(cannotWrite(this.path));
    return this.#written;
  }

  /** Closes the file. May be called again. Never throws. */
  async close(): Promise<void> {
    await this.#handle.close().catch(() => undefined);
  }
}

function cannotWrite(path: string): (error: unknown) => never {
  return (error) => {
    throw fileError(error, path, "write");
  };
}

/** Reads a file up to a mark. Throws BAD_RESULTS unless its content is that of the mark. */
async function readMarked(handle: FileHandle, path: string, mark: FileMark, restore: (piece: Uint8Array) => void): Promise<void> {
  const changed = "the partial results have changed since they were saved";
  const buffer = new Uint8Array(PIECE_BYTES);
  let [bytes, crc] = [0, 0];
  while (bytes < mark.bytes) {
    const piece = buffer.subarray(0, await readFully(handle, buffer.subarray(0, mark.bytes - bytes), bytes));
    if (piece.length === 0) throw badResults(changed, path, { expected: `${mark.bytes} bytes`, found: bytes });
    crc = crc32c(piece, crc);
    bytes += piece.length;
    restore(piece);
  }
  if (crc !== mark.crc32c) throw badResults(changed, path, { expected: `checksum ${mark.crc32c}`, found: crc });
}
