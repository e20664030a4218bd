import { type FileHandle, readdir } from "node:fs/promises";
import { join } from "node:path";
import { fileError, NextvladError } from "../base/errors.js";
import { openInput, readExactly, readFully } from "../base/input.js";
import { parseVariableHeader, VARIABLE_HEAD_BYTES } from "../formats/tensors/paddle-variable.js";
import type { ArrayEntry, RawArray, WeightSource } from "./weight-source.js";

interface Variable extends ArrayEntry {
  readonly file: string;
  readonly dataOffset: number;
  readonly dataBytes: number;
}

/**
 * Opens a directory with one file per variable, named after it, as PaddleVideo v1.5.1 saves (save_persistables). Files that are not variables are skipped, or
 * rejected as corrupt if `isNeeded` returns true for their name. Throws FILE_UNREADABLE, BAD_FORMAT.
 */
export async function openPaddleDirectory(path: string, isNeeded: (name: string) => boolean): Promise<WeightSource> {
  const found = await readdir(path, { withFileTypes: true }).catch((error: unknown) => {
    throw fileError(error, path, "read");
  });
  const entries = new Map<string, Variable>();
  for (const file of found) {
    // Links are followed: weights are often linked rather than copied.
    if (file.isDirectory()) continue;
    const variable = await readHeader(join(path, file.name), isNeeded(file.name));
    if (variable !== null) entries.set(file.name, variable);
  }
  async function* read(names: ReadonlySet<string>): AsyncGenerator<RawArray> {
    for (const [name, variable] of entries) {
      if (names.has(name)) yield { name, dtype: variable.dtype, shape: variable.shape, bytes: await readData(variable) };
    }
  }
  return { path, form: "a directory of Paddle variables", snapshot: null, entries, read, close: async () => undefined };
}

/** Returns null for a file that is not a variable and need not be one. */
async function readHeader(file: string, needed: boolean): Promise<Variable | null> {
  try {
    return await withFile(file, async (handle) => {
      const { size } = await handle.stat();
      const head = new Uint8Array(Math.min(size, VARIABLE_HEAD_BYTES));
      const length = await readFully(handle, head, 0);
      const { dtype, shape, dataOffset } = parseVariableHeader(head.subarray(0, length), size, file);
      return { file, dtype, shape, dataOffset, dataBytes: size - dataOffset };
    });
  } catch (error) {
    if (needed || !(error instanceof NextvladError)) throw error;
    return null;
  }
}

async function readData({ file, dataOffset, dataBytes }: Variable): Promise<Uint8Array> {
  return withFile(file, async (handle) => {
    const bytes = new Uint8Array(dataBytes);
    await readExactly(handle, bytes, dataOffset, file);
    return bytes;
  });
}

async function withFile<T>(file: string, use: (handle: FileHandle) => Promise<T>): Promise<T> {
  let handle: FileHandle | undefined;
  try {
    handle = await openInput(file);
    return await use(handle);
  } catch (error) {
    throw fileError(error, file, "read");
  } finally {
    await handle?.close();
  }
}
