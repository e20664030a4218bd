import { NextvladError } from "../base/errors.js";
import { showText } from "../base/shown-value.js";
import { FileReader } from "../formats/containers/file-reader.js";
import { readTar, type TarEntry } from "../formats/containers/tar.js";
import { type PaddleVariableHeader, parseVariableHeader, VARIABLE_HEAD_BYTES } from "../formats/tensors/paddle-variable.js";
import type { ArrayEntry, RawArray, WeightSource } from "./weight-source.js";

/** A variable found in the tar, with its first bytes. */
interface Met {
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
      const remedy = "unpack it, and name the directory that is meant";
      throw new NextvladError("BAD_WEIGHTS", `the tar holds ${showText(name)} twice: ${showText(other)} and ${showText(entry.name)}`, {
        file: path,
        remedy,
      });
    }
    entries.set(name, { dtype: header.dtype, shape: header.shape, place: entry.name });
  }
  async function* read(names: ReadonlySet<string>): AsyncGenerator<RawArray> {
    for await (const { name, header, head, entry } of walk(path, isNeeded, (name) => names.has(name))) {
      // The tar reader has checked this size against the length of the file.
      const bytes = new Uint8Array(entry.sizeBytes - header.dataOffset);
      const there = head.subarray(header.dataOffset);
      bytes.set(there);
      await entry.read(bytes.subarray(there.length));
      yield { name, dtype: header.dtype, shape: header.shape, bytes };
    }
  }
  return { path, form: "Paddle variables in a tar", snapshot: null, entries, read, close: async () => undefined };
}

async function* walk(path: string, isNeeded: (name: string) => boolean, wanted: (name: string) => boolean): AsyncGenerator<Met> {
  const bytes = await FileReader.open(path);
  try {
    for await (const entry of readTar(bytes)) {
      const name = entry.name.slice(entry.name.lastIndexOf("/") + 1);
      if (!wanted(name)) continue;
      const head = new Uint8Array(Math.min(entry.sizeBytes, VARIABLE_HEAD_BYTES));
      await entry.read(head);
      const header = readHeader(head, entry, path, isNeeded(name));
      if (header !== null) yield { name, header, head, entry };
    }
  } finally {
    await bytes.close();
  }
}

/** Returns null for a file that is not a variable and need not be one. */
function readHeader(head: Uint8Array, entry: TarEntry, path: string, needed: boolean): PaddleVariableHeader | null {
  try {
    return parseVariableHeader(head, entry.sizeBytes, `${path}, in it ${showText(entry.name)}`);
  } catch (error) {
    if (needed || !(error instanceof NextvladError)) throw error;
    return null;
  }
}
