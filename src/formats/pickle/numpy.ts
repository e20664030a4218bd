import { countValues } from "../../base/numbers.js";
import { showValue } from "../../base/shown-value.js";
import {
  decodeNumpy,
  dtypeRemedy,
  isNumpyDtype,
  itemBytes,
  LITTLE_ENDIAN_REMEDY,
  NUMPY_DTYPES,
  type NumpyDtype,
} from "../tensors/numpy.js";
import type { PickleReader } from "./reader.js";
import { asText, exactInt } from "./text.js";
import { ByteString, Bytes, Global, NumpyArray, NumpyType, type PickledValue, ReducedObject, Tuple } from "./values.js";

// Reading and writing of numpy's objects in pickles. The readers throw BAD_FORMAT.

/** No array here has more dimensions; numpy's own limit is 32 (64 since 2.0). */
const MAX_DIMENSIONS = 32;

/** `numpy.dtype('f4', False, True)`; its byte order follows in its state (see `checkDtypeState`). */
export function makeDtype(args: readonly PickledValue[], reader: PickleReader): NumpyType {
  const name = asText(args[0]);
  const dtype = /^[<|=]?([a-zA-Z]\d+)$/.exec(name ?? "")?.[1];
  if (dtype === undefined || !isNumpyDtype(dtype)) {
    const what = `unsupported array dtype ${showValue(name)} (supported: ${NUMPY_DTYPES.join(", ")})`;
    throw reader.error(what, dtypeRemedy(name ?? ""));
  }
  return new NumpyType(dtype);
}

/** BUILD of a dtype: checks its state (version, byte order, subarray, names, fields, ...). */
export function checkDtypeState(state: PickledValue, reader: PickleReader): void {
  const items = state instanceof Tuple ? state.items : [];
  const order = asText(items[1]);
  if (order === ">") throw reader.error("an array is big-endian", LITTLE_ENDIAN_REMEDY);
  if (order === null || !["<", "|", "="].includes(order) || items.slice(2, 5).some((part) => part !== null)) {
    throw reader.error("an array's dtype is structured or invalid", "save plain arrays");
  }
}

/** `numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), b'b')`: returns an empty array, whose content BUILD sets. */
export function reconstructArray(args: readonly PickledValue[], reader: PickleReader): NumpyArray {
  const [type] = args;
  if (type instanceof Global && type.name === "ndarray") return new NumpyArray();
  throw reader.error("an array is not a numpy.ndarray");
}

/** BUILD of an array: sets its state (version, shape, dtype, is_fortran, bytes). */
export function setArrayState(array: NumpyArray, state: PickledValue, reader: PickleReader): void {
  const items = state instanceof Tuple ? state.items : [];
  const [shape, dtype, isFortran, bytes] = items.length === 5 ? items.slice(1) : items;
  if (!(bytes instanceof Uint8Array)) throw reader.error("an array's data are not bytes", "save it with a numeric dtype");
  fillArray(array, { shape, dtype, fortranOrder: isFortran === true || isFortran === 1, bytes }, reader);
}

/** `numpy.core.numeric._frombuffer(bytes, dtype, shape, 'C' or 'F')`: protocol 5. */
export function arrayFromBuffer(args: readonly PickledValue[], reader: PickleReader): NumpyArray {
  const [bytes, dtype, shape, orderValue] = args;
  const order = asText(orderValue);
  if (!(bytes instanceof Uint8Array)) throw reader.error("an array's data are not in the file", "pickle it without a buffer_callback");
  if (order !== "C" && order !== "F") throw reader.error("an array is neither in C nor in Fortran order", "use numpy.ascontiguousarray");
  const array = new NumpyArray();
  fillArray(array, { shape, dtype, fortranOrder: order === "F", bytes }, reader);
  return array;
}

interface ArrayState {
  readonly shape: PickledValue | undefined;
  readonly dtype: PickledValue | undefined;
  readonly fortranOrder: boolean;
  readonly bytes: Uint8Array;
}

function fillArray(array: NumpyArray, { shape, dtype: type, fortranOrder, bytes }: ArrayState, reader: PickleReader): void {
  const sizes = shape instanceof Tuple ? shape.items : null;
  if (sizes === null || sizes.length > MAX_DIMENSIONS || !sizes.every(isSize)) throw reader.error("invalid array shape");
  if (!(type instanceof NumpyType)) throw reader.error("invalid array dtype");
  const { dtype } = type;
  const expected = countValues(sizes) * itemBytes(dtype);
  if (bytes.length !== expected) {
    throw reader.error(
      `an array ${dtype} [${sizes.join(", ")}] has ${bytes.length} bytes instead of ${expected}`,
      "copy or download the file again",
    );
  }
  array.shape = sizes;
  array.dtype = dtype;
  array.fortranOrder = fortranOrder;
  array.bytes = bytes;
}

function isSize(value: PickledValue): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

/** `numpy.core.multiarray.scalar(dtype, bytes)`: returns a plain number, bigint or boolean. */
export function makeScalar(args: readonly PickledValue[], reader: PickleReader): number | bigint | boolean {
  const [type, bytes] = args;
  if (!(type instanceof NumpyType) || !(bytes instanceof Uint8Array) || bytes.length !== itemBytes(type.dtype)) {
    throw reader.error("a numpy scalar's bytes do not match its dtype");
  }
  if (type.dtype === "f2") throw reader.error("unsupported float16 scalar", "save it as a Python float");
  const [value] = decodeNumpy(bytes, type.dtype);
  if (type.dtype === "b1") return value !== 0;
  return typeof value === "bigint" ? exactInt(value) : (value as number);
}

/** The value types that are written. */
export type PickledDtype = Extract<NumpyDtype, "u1" | "f4" | "f8" | "i4" | "i8">;

const RECONSTRUCT = new Global("numpy.core.multiarray", "_reconstruct");
const NDARRAY = new Global("numpy", "ndarray");
const DTYPE = new Global("numpy", "dtype");

/**
 * Returns a numpy array as Python 2's numpy pickled it, which every later version loads (numpy 2 under the old module's name too); Python 3 needs
 * `encoding="bytes"` or `"latin1"`. `data` contains the values in row-major order, little-endian: `[product of shape]` of the dtype.
 * Form: `_reconstruct(ndarray, (0,), "b")`, then its state (1, shape, dtype, is_fortran, data) (numpy/core/src/multiarray/methods.c, array_reduce).
 */
export function pickleArray(dtype: PickledDtype, shape: readonly number[], data: Uint8Array): ReducedObject {
  return reduceArray(dtype, shape, new ByteString(data));
}

/** Like `pickleArray`, but loads with any `encoding` and with a bare `pickle.load`: the data are `Bytes`, at up to twice the size. */
export function pickleArrayPortably(dtype: PickledDtype, shape: readonly number[], data: Uint8Array): ReducedObject {
  return reduceArray(dtype, shape, new Bytes(data));
}

function reduceArray(dtype: PickledDtype, shape: readonly number[], data: ByteString | Bytes): ReducedObject {
  const state = new Tuple([1n, new Tuple(shape.map(BigInt)), reduceDtype(dtype), false, data]);
  return new ReducedObject(RECONSTRUCT, new Tuple([NDARRAY, new Tuple([0n]), new ByteString("b")]), state);
}

/** Form: `dtype(name, False, True)`, then its state (version 3, byte order, no fields, no flags). */
function reduceDtype(dtype: PickledDtype): ReducedObject {
  const byteOrder = new ByteString(dtype === "u1" ? "|" : "<");
  return new ReducedObject(
    DTYPE,
    new Tuple([new ByteString(dtype), false, true]),
    new Tuple([3n, byteOrder, null, null, null, -1n, -1n, 0n]),
  );
}
