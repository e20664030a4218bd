import { closeSync, readSync } from "node:fs";
import { openInputSync } from "../base/input.js";
import { makeSource, type OpenedSource } from "./byte-source.js";

/**
 * Opens a file like `openFileSource`, but reads it with blocking calls: for a thread with no other work, which saves a round trip to the thread pool per read.
 * Throws FILE_MISSING, FILE_UNREADABLE.
 */
export async function openBlockingSource(path: string, headBytes: number): Promise<OpenedSource> {
  const file = openInputSync(path);
  const readAt = (target: Uint8Array, position: number): number => readSync(file, target, 0, target.length, position);
  return makeSource(path, { readAt, close: async () => closeSync(file) }, headBytes);
}
