import { Built, ByteString, Bytes, Global, Tuple } from "./picklable.js";

/** Value types, by numpy's names. */
export type NumpyDtype = "u1" | "f4" | "f8" | "i4" | "i8";

const RECONSTRUCT = new Global("numpy.core.multiarray", "_reconstruct");
const NDARRAY = new Global("numpy", "ndarray");
const DTYPE = new Global("numpy", "dtype");

/**
 * Returns a numpy array as Python 2's numpy pickled it, which every later version loads (numpy 2 under the old module's name too); Python 3 needs
 * `encoding="bytes"` or `"latin1"`. `data` contains the values in row-major order, little-endian: `[product of shape]` of the dtype.
 * Form: `_reconstruct(ndarray, (0,), "b")`, then its state (1, shape, dtype, is_fortran, data) (numpy/core/src/multiarray/methods.c, array_reduce).
 */
export function pickleArray(dtype: NumpyDtype, shape: readonly number[], data: Uint8Array): Built {
  return build(dtype, shape, new ByteString(data));
}

/** Like `pickleArray`, but loads with any `encoding` and with a bare `pickle.load`: the data are `Bytes`, at up to twice the size. */
export function pickleArrayForAll(dtype: NumpyDtype, shape: readonly number[], data: Uint8Array): Built {
  return build(dtype, shape, new Bytes(data));
}

function build(dtype: NumpyDtype, shape: readonly number[], data: ByteString | Bytes): Built {
  const state = new Tuple(1n, new Tuple(...shape.map(BigInt)), pickleDtype(dtype), false, data);
  return new Built(RECONSTRUCT, new Tuple(NDARRAY, new Tuple(0n), new ByteString("b")), state);
}

/** Form: `dtype(name, False, True)`, then its state (version 3, byte order, no fields, no flags). */
function pickleDtype(dtype: NumpyDtype): Built {
  const byteOrder = new ByteString(dtype === "u1" ? "|" : "<");
  return new Built(DTYPE, new Tuple(new ByteString(dtype), false, true), new Tuple(3n, byteOrder, null, null, null, -1n, -1n, 0n));
}
