import { isUtf8 } from "node:buffer";
import type { FileHandle } from "node:fs/promises";
import { fileError, NextvladError } from "../base/errors.js";
import { openInput } from "../base/input.js";
import { untilStopped } from "../base/waiting.js";

/** A line of a text file, without its line feed. */
export interface Line {
  readonly text: string;
  /** From 1. */
  readonly number: number;
}

const PIECE_BYTES = 1 << 18;
/** Maximum length of a line; a file with a longer one is not treated as text. */
export const MAX_LINE_BYTES = 1 << 24;
const LINE_FEED = 0x0a;

/**
 * Reads a UTF-8 file line by line, in bounded memory, without its byte order mark. Only a line feed ends a line; text after the last line feed is a line if it
 * is not empty.
 * Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT (not UTF-8, or a line longer than `MAX_LINE_BYTES`).
 */
export async function* readLines(path: string): AsyncGenerator<Line, void> {
  let number = 0;
  for await (const bytes of splitLines(path)) {
    number++;
    if (!isUtf8(bytes))
      throw new NextvladError("BAD_FORMAT", "not UTF-8 text", { file: path, line: number, remedy: "save the file as UTF-8" });
    const text = bytes.toString("utf8");
    yield { text: number === 1 ? text.replace(/^\uFEFF/, "") : text, number };
  }
}

/** Yields the bytes of each line, valid until the next line is requested. */
async function* splitLines(path: string): AsyncGenerator<Buffer, void> {
  let buffer = Buffer.allocUnsafe(PIECE_BYTES);
  let rest = 0;
  let number = 1;
  const handle = await openInput(path);
  try {
    for (;;) {
      const bytes = await readPiece(handle, path, buffer.subarray(rest));
      if (bytes === 0) break;
      const end = rest + bytes;
      let start = 0;
      for (
        let feed = buffer.subarray(0, end).indexOf(LINE_FEED, rest);
        feed >= 0;
        feed = buffer.subarray(0, end).indexOf(LINE_FEED, start)
      ) {
        yield buffer.subarray(start, feed);
        number++;
        start = feed + 1;
      }
      buffer.copy(buffer, 0, start, end);
      rest = end - start;
      if (rest > MAX_LINE_BYTES) {
        const details = { file: path, line: number, expected: `at most ${MAX_LINE_BYTES} bytes`, found: "more" };
        throw new NextvladError("BAD_FORMAT", "line too long", details);
      }
      if (rest === buffer.length) buffer = Buffer.concat([buffer], 2 * buffer.length);
    }
  } finally {
    // Closing waits for a read that is still in progress.
    await untilStopped(path, handle.close());
  }
  if (rest > 0) yield buffer.subarray(0, rest);
}

async function readPiece(handle: FileHandle, path: string, target: Uint8Array): Promise<number> {
  try {
    return (await untilStopped(path, handle.read(target, 0, target.length))).bytesRead;
  } catch (error) {
    throw fileError(error, path, "read");
  }
}
