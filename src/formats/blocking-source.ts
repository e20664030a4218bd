import { closeSync, readSync } from "node:fs";
import { openInputSync } from "../base/input.js";
import { makeSource, type OpenedSource } from "./byte-source.js";

/**
 * An open file as `openFileSource` gives it, read by calls that block: for a thread that has nothing else to do, and saves itself the way to another
 * thread and back for each piece. Throws FILE_MISSING, FILE_UNREADABLE.
 */
export async function openBlockingSource(path: string, headBytes: number): Promise<OpenedSource> {
  const file = openInputSync(path);
  const readAt = (target: Uint8Array, position: number): number => readSync(file, target, 0, target.length, position);
  return makeSource(path, { readAt, close: async () => closeSync(file) }, headBytes);
}
