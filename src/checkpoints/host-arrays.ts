import type { Parameter } from "../model/parameters.js";
import { floatsOf, type WeightSource } from "./weight-source.js";

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
