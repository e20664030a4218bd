import { type ErrorDetails, NextvladError } from "../base/errors.js";
import { decodeNumpy } from "../formats/tensors/numpy.js";
import type { Parameter } from "../model/parameters.js";

/** An array's dtype and shape, known before it is read. */
export interface ArrayEntry {
  /** numpy's name, like `f4`. */
  readonly dtype: string;
  readonly shape: readonly number[];
}

/** An array's data, row-major and little-endian. */
export interface RawArray extends ArrayEntry {
  readonly name: string;
  /** Borrowed: valid until the next array is read. May start at any offset, without alignment. */
  readonly bytes: Uint8Array;
}

/** Weights in a file or directory of any format: named arrays that can be read in any number of passes. */
export interface WeightSource {
  /** The path as given by the user, or as found. */
  readonly path: string;
  /** The format, in words: "a snapshot", "a directory of Paddle variables". */
  readonly form: string;
  /** The directory of the snapshot, which also has config and state; null for other formats. */
  readonly snapshot: string | null;
  /** The config in an exported safetensors file, as YAML, not validated. */
  readonly embeddedConfig?: string;
  readonly entries: ReadonlyMap<string, ArrayEntry>;
  /** Reads the named arrays that the source has, in the source's order, one in memory at a time if the format allows it. Throws FILE_UNREADABLE, BAD_FORMAT. */
  read(names: ReadonlySet<string>): AsyncGenerator<RawArray>;
  /** Closes files and frees memory. */
  close(): Promise<void>;
}

/** Returns the values of an `f4` array: a view if its bytes are aligned, else a copy. Throws BAD_WEIGHTS for another type. */
export function floatsOf({ name, dtype, bytes }: RawArray, path: string): Float32Array {
  if (dtype !== "f4") {
    const details = { file: path, parameter: name, expected: "f4", found: dtype };
    throw new NextvladError("BAD_WEIGHTS", "wrong array type", details);
  }
  return decodeNumpy(bytes, "f4");
}

/** A named array in host memory, row-major. */
export interface HostArray {
  readonly name: string;
  readonly shape: readonly number[];
  /** `[product of shape]`. */
  readonly data: Float32Array | BigInt64Array;
}

/** Reads the wanted arrays that the source has, without TensorFlow, in the source's order. Each is borrowed: valid until the next one is read. */
export async function* readHostArrays(source: WeightSource, wanted: Iterable<Pick<Parameter, "name">>): AsyncGenerator<HostArray> {
  const names = new Set(Array.from(wanted, ({ name }) => name));
  for await (const array of source.read(names)) yield { name: array.name, shape: array.shape, data: floatsOf(array, source.path) };
}

/** Reads all wanted arrays at once; the caller owns each. */
export async function gatherHostArrays(source: WeightSource, wanted: Iterable<Pick<Parameter, "name">>): Promise<readonly HostArray[]> {
  const arrays: HostArray[] = [];
  for await (const { name, shape, data } of readHostArrays(source, wanted)) arrays.push({ name, shape, data: data.slice() });
  return arrays;
}

/** Throws NOT_FINITE if an array holds NaN or Inf. */
export function assertFinite(values: Float32Array, what: string, details: ErrorDetails): void {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (values[i] as number) * 0;
  if (sum === 0) return;
  const index = values.findIndex((value) => !Number.isFinite(value));
  throw new NextvladError("NOT_FINITE", what, { ...details, found: `${values[index]} at index ${index}` });
}
