import { NextvladError } from "../base/errors.js";

/** Array types that numpy files can be written from. */
export type NumpyData = Float32Array | Float64Array | Int32Array | BigInt64Array | Uint8Array;

const DESCRIPTIONS = new Map<unknown, string>([
  [Float32Array, "<f4"],
  [Float64Array, "<f8"],
  [Int32Array, "<i4"],
  [BigInt64Array, "<i8"],
  [Uint8Array, "|u1"],
]);

/** Returns the array's type as numpy's `descr`: byte order, kind and size, such as `<f4`. Throws BAD_FORMAT if the data do not fit the shape. */
export function numpyDescr(shape: readonly number[], data: NumpyData): string {
  const size = shape.reduce((product, side) => product * side, 1);
  if (data.length !== size) {
    throw new NextvladError("BAD_FORMAT", "the array's data do not fit its shape", {
      expected: `${size} values for [${shape.join(", ")}]`,
      found: data.length,
    });
  }
  const kind = Buffer.isBuffer(data) ? Uint8Array : data.constructor;
  return DESCRIPTIONS.get(kind) as string;
}
