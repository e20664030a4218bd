import { NextvladError } from "../base/errors.js";
import { SafetensorsFile } from "../formats/safetensors.js";
import type { StoredArray } from "../tensorflow/variables.js";

/** What a file has for an array: nothing, or another shape. */
export interface Misfit {
  readonly name: string;
  readonly expected: readonly number[];
  /** Null where the file has no such array. */
  readonly found: readonly number[] | null;
}

const show = (shape: readonly number[]): string => `[${shape.join(", ")}]`;

/** "logits_clf_bias is [3862] here and [12] in the file". */
export function describeMisfit({ name, expected, found }: Misfit): string {
  return found === null ? `${name} ${show(expected)} is missing` : `${name} should be ${show(expected)} and is ${show(found)}`;
}

/**
 * Fills arrays from a safetensors file, one at a time, and returns those that it could not: missing there, or of another shape.
 * Arrays of the file that nobody asked for are left alone. Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT.
 */
export async function fillArrays(path: string, arrays: Iterable<StoredArray>): Promise<readonly Misfit[]> {
  const misfits: Misfit[] = [];
  const file = await SafetensorsFile.open(path);
  try {
    for (const array of arrays) {
      const entry = file.tensors.get(array.name);
      if (entry === undefined || show(entry.shape) !== show(array.shape)) {
        misfits.push({ name: array.name, expected: array.shape, found: entry?.shape ?? null });
        continue;
      }
      const { data } = await file.read(array.name);
      if (!(data instanceof Float32Array)) {
        throw new NextvladError("BAD_WEIGHTS", "the array has another type", {
          file: path,
          parameter: array.name,
          expected: "F32",
          found: entry.dtype,
        });
      }
      array.upload(data);
    }
  } finally {
    await file.close();
  }
  return misfits;
}

/** `fillArrays` where everything must fit. Throws BAD_WEIGHTS with every misfit at once. */
export async function fillAllArrays(path: string, arrays: Iterable<StoredArray>, remedy: string): Promise<void> {
  const misfits = await fillArrays(path, arrays);
  if (misfits.length === 0) return;
  const what = `${misfits.length === 1 ? "an array does" : `${misfits.length} arrays do`} not fit the model: ${misfits.map(describeMisfit).join("; ")}`;
  throw new NextvladError("BAD_WEIGHTS", what, { file: path, remedy });
}
