import { NextvladError } from "../base/errors.js";
import { FileReader } from "../formats/containers/file-reader.js";
import { PickleLengthCheck } from "../formats/pickle/length-check.js";
import { MAX_STRING_BYTES } from "../formats/pickle/reader.js";
import { parsePickle } from "../formats/pickle/unpickler.js";
import { NumpyArray } from "../formats/pickle/values.js";
import type { ArrayEntry, RawArray, WeightSource } from "./weight-source.js";

/** In files of dygraph models: maps each key of the file to the name of its parameter. */
const PARAMETER_NAMES = "StructuredToParameterName@@";

/**
 * Opens Paddle's pickled dicts of arrays (gzipped or not) as one source: a `.pdparams` file, and the `.pdopt` with the optimizer state. The arrays are held in
 * memory until the source is closed.
 * Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT, UNSAFE_PICKLE, and BAD_WEIGHTS if a pickle is not a dict.
 */
export async function openPaddlePickles(path: string, files: readonly string[]): Promise<WeightSource> {
  let arrays = new Map<string, NumpyArray>();
  for (const file of files) for (const [name, array] of await readArrays(file)) arrays.set(name, array);
  const entries = new Map<string, ArrayEntry>();
  for (const [name, { dtype, shape }] of arrays) entries.set(name, { dtype, shape });
  async function* read(names: ReadonlySet<string>): AsyncGenerator<RawArray> {
    for (const [name, array] of arrays) {
      if (names.has(name)) yield { name, dtype: array.dtype, shape: array.shape, bytes: array.rowMajorBytes() };
    }
  }
  const close = async (): Promise<void> => {
    arrays = new Map();
  };
  return { path, form: files.length > 1 ? "Paddle's .pdparams and .pdopt" : "Paddle's .pdparams", snapshot: null, entries, read, close };
}

async function readArrays(file: string): Promise<ReadonlyMap<string, NumpyArray>> {
  const bytes = await FileReader.open(file);
  try {
    const guard = new PickleLengthCheck(file, MAX_STRING_BYTES);
    const dict = parsePickle(await bytes.readAll((piece) => guard.check(piece)), file);
    if (!(dict instanceof Map)) {
      const remedy = "pass a .pdparams file; tf2pkl.py's pickles of videos belong in a file list";
      throw new NextvladError("BAD_WEIGHTS", "expected a pickled dict of arrays", { file, remedy });
    }
    const names = dict.get(PARAMETER_NAMES);
    const arrays = new Map<string, NumpyArray>();
    for (const [key, value] of dict) {
      if (!(value instanceof NumpyArray)) continue;
      const name = names instanceof Map ? names.get(key) : undefined;
      arrays.set(typeof name === "string" ? name : key, value);
    }
    return arrays;
  } finally {
    await bytes.close();
  }
}
