import { showValue } from "../base/shown-value.js";
import { adviseOnDtype, LITTLE_ENDIAN } from "./numpy-advice.js";
import type { PickleCursor } from "./pickle-cursor.js";
import { latin1Text } from "./pickle-text.js";
import {
  NUMPY_ITEM_BYTES,
  NumpyArray,
  NumpyDtype,
  type NumpyKind,
  PickledGlobal,
  PickledTuple,
  type PickledValue,
} from "./pickle-values.js";

/** No array here has more dimensions; numpy's own limit is 32 (64 since 2.0). */
const MAX_SIDES = 32;

/** Maximum size of a key, type name or encoding name. */
const MAX_NAME_BYTES = 1 << 16;

/** Returns text that a writer may have stored as bytes (Python 2's `str`); null for other or longer values. */
export function asText(value: PickledValue | undefined): string | null {
  if (typeof value === "string") return value;
  return value instanceof Uint8Array && value.length <= MAX_NAME_BYTES ? latin1Text(value) : null;
}

/** `numpy.dtype('f4', False, True)`; its byte order follows in its state (see `checkDtypeState`). */
export function makeDtype(args: readonly PickledValue[], cursor: PickleCursor): NumpyDtype {
  const name = asText(args[0]);
  const kind = /^[<|=]?([a-zA-Z]\d+)$/.exec(name ?? "")?.[1];
  if (kind === undefined || !Object.hasOwn(NUMPY_ITEM_BYTES, kind)) {
    const kinds = Object.keys(NUMPY_ITEM_BYTES).join(", ");
    throw cursor.error(`an array's type is ${showValue(name)}, and those that are read are ${kinds}`, adviseOnDtype(name ?? ""));
  }
  return new NumpyDtype(kind as NumpyKind);
}

/** BUILD of a dtype: checks its state (version, byte order, subarray, names, fields, ...). */
export function checkDtypeState(state: PickledValue, cursor: PickleCursor): void {
  const items = state instanceof PickledTuple ? state.items : [];
  const order = asText(items[1]);
  if (order === ">") throw cursor.error("an array is big-endian", LITTLE_ENDIAN);
  if (order === null || !["<", "|", "="].includes(order) || items.slice(2, 5).some((part) => part !== null)) {
    throw cursor.error("an array's type is a structure, or damaged", "save plain arrays");
  }
}

/** `numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), b'b')`: returns an empty array, whose content BUILD sets. */
export function reconstructArray(args: readonly PickledValue[], cursor: PickleCursor): NumpyArray {
  const [type] = args;
  if (type instanceof PickledGlobal && type.name === "ndarray") return new NumpyArray();
  throw cursor.error("an array is made of something other than numpy.ndarray");
}

/** BUILD of an array: sets its state (version, shape, dtype, is_fortran, bytes). */
export function setArrayState(array: NumpyArray, state: PickledValue, cursor: PickleCursor): void {
  const items = state instanceof PickledTuple ? state.items : [];
  const [shape, dtype, isFortran, bytes] = items.length === 5 ? items.slice(1) : items;
  if (!(bytes instanceof Uint8Array)) throw cursor.error("an array's content is not given as bytes", "save it with a numeric dtype");
  fillArray(array, shape, dtype, isFortran === true || isFortran === 1, bytes, cursor);
}

/** `numpy.core.numeric._frombuffer(bytes, dtype, shape, 'C' or 'F')`: protocol 5. */
export function arrayFromBuffer(args: readonly PickledValue[], cursor: PickleCursor): NumpyArray {
  const [bytes, dtype, shape, orderValue] = args;
  const order = asText(orderValue);
  if (!(bytes instanceof Uint8Array)) throw cursor.error("an array's content is not in the file", "pickle it without a buffer_callback");
  if (order !== "C" && order !== "F")
    throw cursor.error("an array's axes are in another order than C's or Fortran's", "use numpy.ascontiguousarray");
  const array = new NumpyArray();
  fillArray(array, shape, dtype, order === "F", bytes, cursor);
  return array;
}

function fillArray(
  array: NumpyArray,
  shape: PickledValue | undefined,
  dtype: PickledValue | undefined,
  fortranOrder: boolean,
  bytes: Uint8Array,
  cursor: PickleCursor,
): void {
  const sides = shape instanceof PickledTuple ? shape.items : null;
  if (sides === null || sides.length > MAX_SIDES || !sides.every(isSide)) throw cursor.error("an array's shape is none");
  if (!(dtype instanceof NumpyDtype)) throw cursor.error("an array's type is none");
  const expected = sides.reduce((product, side) => product * side, NUMPY_ITEM_BYTES[dtype.kind]);
  if (bytes.length !== expected) {
    throw cursor.error(
      `an array ${dtype.kind} [${sides.join(", ")}] has ${bytes.length} bytes instead of ${expected}`,
      "copy or download the file again",
    );
  }
  array.shape = sides;
  array.dtype = dtype.kind;
  array.fortranOrder = fortranOrder;
  array.bytes = bytes;
}

function isSide(value: PickledValue): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

/** `numpy.core.multiarray.scalar(dtype, bytes)`: returns a plain number, bigint or boolean. */
export function makeScalar(args: readonly PickledValue[], cursor: PickleCursor): number | bigint | boolean {
  const [dtype, bytes] = args;
  if (!(dtype instanceof NumpyDtype) || !(bytes instanceof Uint8Array) || bytes.length !== NUMPY_ITEM_BYTES[dtype.kind]) {
    throw cursor.error("a numpy scalar's bytes do not fit its type");
  }
  return readItem(dtype.kind, new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0, cursor);
}

function readItem(kind: NumpyKind, view: DataView, at: number, cursor: PickleCursor): number | bigint | boolean {
  switch (kind) {
    case "b1":
      return view.getUint8(at) !== 0;
    case "i1":
      return view.getInt8(at);
    case "u1":
      return view.getUint8(at);
    case "i2":
      return view.getInt16(at, true);
    case "u2":
      return view.getUint16(at, true);
    case "i4":
      return view.getInt32(at, true);
    case "u4":
      return view.getUint32(at, true);
    case "f4":
      return view.getFloat32(at, true);
    case "f8":
      return view.getFloat64(at, true);
    case "i8":
      return exact(view.getBigInt64(at, true));
    case "u8":
      return exact(view.getBigUint64(at, true));
    case "f2":
      throw cursor.error("a numpy scalar is a float16", "save it as a Python float");
  }
}

function exact(value: bigint): number | bigint {
  return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
}
