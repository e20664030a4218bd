import type { StoredArray } from "../tensorflow/variables.js";
import { fillAllArrays } from "./arrays.js";

/** A named array in the host's memory, row-major. */
export interface HostArray {
  readonly name: string;
  readonly shape: readonly number[];
  /** `[product of shape]`. */
  readonly data: Float32Array | BigInt64Array;
}

/** Reads the arrays that are wanted from weights, without TensorFlow. Throws BAD_WEIGHTS with every misfit at once, and what opening throws. */
export async function readHostArrays(
  path: string,
  wanted: Iterable<Pick<HostArray, "name" | "shape">>,
  remedy: string,
): Promise<readonly HostArray[]> {
  const arrays = Array.from(wanted, ({ name, shape }) => new Slot(name, shape));
  await fillAllArrays(path, arrays, remedy);
  return arrays.map(({ name, shape, data }) => ({ name, shape, data }));
}

/** Holds a copy of an array, as a variable on the device does: what it is given may be overwritten by the next. */
class Slot implements StoredArray {
  readonly name: string;
  readonly shape: readonly number[];
  data = new Float32Array();

  constructor(name: string, shape: readonly number[]) {
    this.name = name;
    this.shape = shape;
  }

  upload(values: Float32Array): void {
    this.data = values.slice();
  }

  download(): Float32Array<ArrayBuffer> {
    return this.data;
  }
}
