import { type FileHandle, readdir } from "node:fs/promises";
import { join } from "node:path";
import { fileError, NextvladError } from "../base/errors.js";
import { openInput, readExactly, readFully } from "../base/input.js";
import { showText } from "../base/shown-value.js";
import { FileReader } from "../formats/containers/file-reader.js";
import { readTar, type TarEntry } from "../formats/containers/tar.js";
import { type PaddleVariableHeader, parseVariableHeader, VARIABLE_HEAD_BYTES } from "../formats/tensors/paddle-variable.js";
import type { ArrayEntry, RawArray, WeightSource } from "./weight-source.js";

/** Parses the header of a file that may be a variable. Returns null if it is not one and need not be. Throws what `parse` throws for a needed one. */
async function parseIfVariable<T>(isNeeded: boolean, parse: () => T | Promise<T>): Promise<T | null> {
  try {
    return await parse();
  } catch (error) {
    if (isNeeded || !(error instanceof NextvladError)) throw error;
    return null;
  }
}

interface VariableFile extends ArrayEntry {
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
  const entries = new Map<string, VariableFile>();
  for (const file of found) {
    // Links are followed: weights are often linked rather than copied.
    if (file.isDirectory()) continue;
    const variable = await parseIfVariable(isNeeded(file.name), () => readVariableHeader(join(path, file.name)));
    if (variable !== null) entries.set(file.name, variable);
  }
  async function* read(names: ReadonlySet<string>): AsyncGenerator<RawArray> {
    for (const [name, variable] of entries) {
      if (names.has(name)) yield { name, dtype: variable.dtype, shape: variable.shape, bytes: await readData(variable) };
    }
  }
  return { path, form: "a directory of Paddle variables", snapshot: null, entries, read, close: async () => undefined };
}

async function readVariableHeader(file: string): Promise<VariableFile> {
  return withFile(file, async (handle) => {
    const { size } = await handle.stat();
    const head = new Uint8Array(Math.min(size, VARIABLE_HEAD_BYTES));
    const length = await readFully(handle, head, 0);
    const { dtype, shape, dataOffset } = parseVariableHeader(head.subarray(0, length), size, file);
    return { file, dtype, shape, dataOffset, dataBytes: size - dataOffset };
  });
}

async function readData({ file, dataOffset, dataBytes }: VariableFile): Promise<Uint8Array> {
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

/** A variable in a tar, with its first bytes. */
interface TarVariable {
  readonly name: string;
  readonly header: PaddleVariableHeader;
  readonly head: Uint8Array;
  readonly entry: TarEntry;
}

/**
 * Opens a tar (gzipped or not) of a directory of Paddle variables, at any depth. The tar is streamed, once to list the variables and once for each read;
 * nothing is unpacked to disk. Files that are not variables are skipped, or rejected as corrupt if `isNeeded` returns true for their name.
 * Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT, and BAD_WEIGHTS if two files have the same name.
 */
export async function openPaddleArchive(path: string, isNeeded: (name: string) => boolean): Promise<WeightSource> {
  const entries = new Map<string, ArrayEntry & { readonly place: string }>();
  for await (const { name, header, entry } of walk(path, isNeeded, () => true)) {
    const other = entries.get(name)?.place;
    if (other !== undefined) {
      const what = `duplicate variable ${showText(name)} in the tar: ${showText(other)} and ${showText(entry.name)}`;
      throw new NextvladError("BAD_WEIGHTS", what, { file: path, remedy: "unpack it, and pass one of the directories" });
    }
    entries.set(name, { dtype: header.dtype, shape: header.shape, place: entry.name });
  }
  async function* read(names: ReadonlySet<string>): AsyncGenerator<RawArray> {
    for await (const { name, header, head, entry } of walk(path, isNeeded, (name) => names.has(name))) {
      // The tar reader has checked this size against the length of the file.
      const bytes = new Uint8Array(entry.sizeBytes - header.dataOffset);
      const first = head.subarray(header.dataOffset);
      bytes.set(first);
      await entry.read(bytes.subarray(first.length));
      yield { name, dtype: header.dtype, shape: header.shape, bytes };
    }
  }
  return { path, form: "Paddle variables in a tar", snapshot: null, entries, read, close: async () => undefined };
}

async function* walk(path: string, isNeeded: (name: string) => boolean, wanted: (name: string) => boolean): AsyncGenerator<TarVariable> {
  const bytes = await FileReader.open(path);
  try {
    for await (const entry of readTar(bytes)) {
      const name = entry.name.slice(entry.name.lastIndexOf("/") + 1);
      if (!wanted(name)) continue;
      const head = new Uint8Array(Math.min(entry.sizeBytes, VARIABLE_HEAD_BYTES));
      await entry.read(head);
      const place = `${path}, entry ${showText(entry.name)}`;
      const header = await parseIfVariable(isNeeded(name), () => parseVariableHeader(head, entry.sizeBytes, place));
      if (header !== null) yield { name, header, head, entry };
    }
  } finally {
    await bytes.close();
  }
}
