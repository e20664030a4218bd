import { constants, openSync, type Stats, statSync } from "node:fs";
import { type FileHandle, open, readFile, stat } from "node:fs/promises";
import { Socket } from "node:net";
import { fileError, NextvladError } from "./errors.js";
import { describeKind } from "./output-checks.js";
import { reportedWait, untilStopped } from "./waiting.js";

const PIECE_BYTES = 1 << 18;

/**
 * Opens an input that is read at positions or more than once, or whose size is needed. Rejects pipes, sockets and devices: opening a pipe waits for a writer,
 * and some devices never end. `name` is the path in messages. Throws FILE_MISSING, FILE_UNREADABLE.
 */
export async function openInput(path: string, name = path): Promise<FileHandle> {
  await requireRegularFile(path, name);
  return untilStopped(name, open(path, "r")).catch((error: unknown) => {
    throw fileError(error, name, "read");
  });
}

/** Synchronous `openInput`: returns the file descriptor. */
export function openInputSync(path: string): number {
  try {
    rejectSpecialFile(statSync(path), path);
    return openSync(path, "r");
  } catch (error) {
    throw fileError(error, path, "read");
  }
}

/** Default maximum size of a file that is read as a whole: lists, states, tables. */
const MAX_INPUT_BYTES = 2 ** 28;

/** Reads a whole regular file. Throws FILE_MISSING, FILE_UNREADABLE, or BAD_FORMAT if it is larger than `maxBytes`. */
export async function readInput(path: string, name = path, maxBytes = MAX_INPUT_BYTES): Promise<Buffer> {
  const size = (await requireRegularFile(path, name))?.size ?? 0;
  if (size > maxBytes) {
    const details = {
      file: name,
      expected: `at most ${maxBytes} bytes`,
      found: `${size} bytes`,
      remedy: "check the path",
    };
    throw new NextvladError("BAD_FORMAT", "the file is too large", details);
  }
  return untilStopped(name, readFile(path)).catch((error: unknown) => {
    throw fileError(error, name, "read");
  });
}

/** Throws FILE_UNREADABLE for a pipe, a socket or a device. Returns the file's stats, or null on any other error, which opening the file reports. */
export async function requireRegularFile(path: string, name = path): Promise<Stats | null> {
  const found = await untilStopped(
    name,
    stat(path).catch(() => null),
  );
  if (found !== null) rejectSpecialFile(found, name);
  return found;
}

function rejectSpecialFile(found: Stats, path: string): void {
  // Opening a directory reports it.
  if (found.isFile() || found.isDirectory()) return;
  const remedy = found.isFIFO() ? "write its data to a file, and pass that file" : "pass a regular file";
  throw new NextvladError("FILE_UNREADABLE", `cannot read: it is ${describeKind(found)}, not a file`, { file: path, remedy });
}

/**
 * Reads an input once from its start, piece by piece. It may be a pipe (`<(command)`, a FIFO); a wait for one is reported within a second.
 * Throws FILE_MISSING, FILE_UNREADABLE.
 */
export async function* readOnce(path: string): AsyncGenerator<Uint8Array, void> {
  const found = await reportedWait(path, stat(path)).catch((error: unknown) => {
    throw fileError(error, path, "read");
  });
  if (found.isFIFO()) yield* readPipe(path);
  else yield* readPieces(path);
}

/** Reads the whole of an input that may be a pipe. Throws what `readOnce` throws, and `tooLarge` if it holds more than `maxBytes`. */
export async function readAllOnce(path: string, maxBytes: number, tooLarge: () => NextvladError): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of readOnce(path)) {
    pieces.push(piece);
    size += piece.length;
    if (size > maxBytes) throw tooLarge();
  }
  return Buffer.concat(pieces);
}

/** Reads a regular file piece by piece. Throws FILE_MISSING, FILE_UNREADABLE. */
export async function* readPieces(path: string): AsyncGenerator<Uint8Array, void> {
  const handle = await openInput(path);
  try {
    for (;;) {
      const piece = new Uint8Array(PIECE_BYTES);
      const { bytesRead } = await untilStopped(path, handle.read(piece, 0, PIECE_BYTES, null));
      if (bytesRead === 0) return;
      yield piece.subarray(0, bytesRead);
    }
  } catch (error) {
    throw fileError(error, path, "read");
  } finally {
    // Closing waits for a read that is still in progress.
    await untilStopped(path, handle.close());
  }
}

/** Reads a pipe without a thread that blocks in the kernel: while no process writes to it, signals still work and the process can end. */
async function* readPipe(path: string): AsyncGenerator<Uint8Array, void> {
  const socket = openPipe(path);
  try {
    yield* readStream(socket, path, `${path} (a pipe)`);
  } finally {
    socket.destroy();
  }
}

function openPipe(path: string): Socket {
  try {
    return new Socket({ fd: openSync(path, constants.O_RDONLY | constants.O_NONBLOCK), readable: true, writable: false });
  } catch (error) {
    throw fileError(error, path, "read");
  }
}

/** Yields the pieces of a byte source such as standard input; reports a wait within a second. `name` is its name in errors, `source` in reports. */
export async function* readStream(
  stream: AsyncIterable<Uint8Array | string>,
  name: string,
  source = name,
): AsyncGenerator<Uint8Array, void> {
  const pieces = stream[Symbol.asyncIterator]();
  try {
    for (;;) {
      // A pipe without data is not a stuck read: a stop signal ends the wait at once.
      const { value, done } = await reportedWait(`data from ${source}`, pieces.next(), 0);
      if (done === true) return;
      yield Buffer.from(value);
    }
  } catch (error) {
    throw fileError(error, name, "read");
  }
}

/** Reads bytes from a position in a file, as a FileHandle does. */
export interface PositionedReader {
  read(target: Uint8Array, offset: number, length: number, position: number): Promise<{ readonly bytesRead: number }>;
}

/** Larger reads could exceed the system call's limit of 2 GiB. */
const MAX_READ_BYTES = 1 << 26;

/**
 * Fills `target` from a position in the file, and returns the number of bytes read: fewer only at the end of the file. A single read may return fewer bytes
 * anywhere, as on network file systems. Throws the file system's error.
 */
export async function readFully(file: PositionedReader, target: Uint8Array, position: number): Promise<number> {
  let done = 0;
  while (done < target.length) {
    const { bytesRead } = await file.read(target, done, Math.min(target.length - done, MAX_READ_BYTES), position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

/** `readFully`, but throws BAD_FORMAT if the file ends before the target is full, and FILE_UNREADABLE. `file` is its path in messages. */
export async function readExactly(handle: FileHandle, target: Uint8Array, position: number, file: string): Promise<void> {
  const done = await readFully(handle, target, position).catch((error: unknown) => {
    throw fileError(error, file, "read");
  });
  if (done === target.length) return;
  const details = { file, byteOffset: position + done, remedy: "run the command again" };
  throw new NextvladError("BAD_FORMAT", "the file was truncated while it was being read", details);
}
