import type { Parameter } from "../model/parameters.js";
import { floatsOf, type WeightSource } from "./weight-source.js";

/** A named array in the host's memory, row-major. */
export interface HostArray {
  readonly name: string;
  readonly shape: readonly number[];
  /** `[product of shape]`. */
  readonly data: Float32Array | BigInt64Array;
}

/** The wanted arrays of weights that have them, without TensorFlow, in the weights' own order. Each is good until the next is asked for. */
export async function* readHostArrays(source: WeightSource, wanted: Iterable<Pick<Parameter, "name">>): AsyncGenerator<HostArray> {
  const names = new Set(Array.from(wanted, ({ name }) => name));
  for await (const array of source.read(names)) yield { name: array.name, shape: array.shape, data: floatsOf(array, source.path) };
}

/** The same all at once, each in memory of its own. */
export async function gatherHostArrays(source: WeightSource, wanted: Iterable<Pick<Parameter, "name">>): Promise<readonly HostArray[]> {
  const arrays: HostArray[] = [];
  for await (const { name, shape, data } of readHostArrays(source, wanted)) arrays.push({ name, shape, data: data.slice() });
  return arrays;
}
