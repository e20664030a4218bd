import { closeSync, openSync, readSync } from "node:fs";
import { fileError } from "../base/errors.js";
import type { ByteSource } from "./byte-source.js";

/**
 * An open file as `openFileSource` gives it, read by calls that block: for a thread that has nothing else to do, and saves itself the way to another
 * thread and back for each piece. Throws FILE_MISSING, FILE_UNREADABLE.
 */
export async function openBlockingSource(path: string, headBytes: number): Promise<{ source: ByteSource; head: Uint8Array }> {
  const attempt = <T>(call: () => T): T => {
    try {
      return call();
    } catch (error) {
      throw fileError(error, path, "read");
    }
  };
  const file = attempt(() => openSync(path, "r"));
  const readAt = (target: Uint8Array, position: number): number => attempt(() => readSync(file, target, 0, target.length, position));
  try {
    const head = new Uint8Array(headBytes);
    const headLength = readAt(head, 0);
    let position = 0;
    const source: ByteSource = {
      get filePosition() {
        return position;
      },
      async read(target) {
        const bytes = readAt(target, position);
        position += bytes;
        return bytes;
      },
      close: async () => closeSync(file),
    };
    return { source, head: head.subarray(0, headLength) };
  } catch (error) {
    closeSync(file);
    throw error;
  }
}
