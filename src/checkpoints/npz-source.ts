import { NextvladError } from "../base/errors.js";
import { NpzFile } from "../formats/tensors/npz.js";
import type { ArrayEntry, RawArray, WeightSource } from "./weight-source.js";

/** The maximum size of an entry of a .npz file without ZIP64. */
const MAX_ARRAY_BYTES = 2 ** 32;

/**
 * Opens a .npz file of named arrays, as `nextvlad export` and numpy write them. Arrays of unsupported types are skipped, or rejected if `isNeeded` returns true
 * for their name.
 * Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT, and BAD_WEIGHTS for a zip file without arrays.
 */
export async function openNpz(path: string, isNeeded: (name: string) => boolean): Promise<WeightSource> {
  const npz = await NpzFile.open(path);
  try {
    const entries = new Map<string, ArrayEntry>();
    for (const name of npz.names) {
      const header = await npz.describe(name).catch((error: unknown) => {
        if (isNeeded(name) || !(error instanceof NextvladError)) throw error;
        return null;
      });
      // float16 is read as float32.
      if (header !== null) entries.set(name, { ...header, dtype: header.dtype === "f2" ? "f4" : header.dtype });
    }
    if (entries.size === 0) {
      const remedy = "pass weights that nextvlad export or numpy.savez wrote";
      throw new NextvladError("BAD_WEIGHTS", "no numpy arrays in this zip file", { file: path, remedy });
    }
    async function* read(names: ReadonlySet<string>): AsyncGenerator<RawArray> {
      for (const name of entries.keys()) {
        if (!names.has(name)) continue;
        const { dtype, shape, data } = await npz.read(name, MAX_ARRAY_BYTES);
        yield { name, dtype, shape, bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
      }
    }
    return { path, form: "a .npz file", snapshot: null, entries, read, close: async () => npz.close() };
  } catch (error) {
    npz.close();
    throw error;
  }
}
