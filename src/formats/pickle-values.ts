/**
 * Values that Python objects are read as: `int` is a number if exact, otherwise a bigint; `str` string; `bytes` (and Python 2's `str`) Uint8Array; `list`
 * array; `dict` Map.
 */
export type PickledValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | PickledText
  | PickledTuple
  | PickledValue[]
  | PickledDict
  | NumpyArray
  | NumpyDtype
  | PickledGlobal;

/** A `dict`; keys that were bytes are converted to text. */
export type PickledDict = Map<string, PickledValue>;

/** A `tuple`. */
export class PickledTuple {
  readonly items: readonly PickledValue[];

  constructor(items: readonly PickledValue[]) {
    this.items = items;
  }
}

/** A long `str` that is decoded on demand: usually the bytes of an array in protocol 2 of Python 3. */
export class PickledText {
  readonly utf8: Uint8Array;

  constructor(utf8: Uint8Array) {
    this.utf8 = utf8;
  }
}

/** One of the few allowed globals, with the module and name that the pickle uses. */
export class PickledGlobal {
  readonly module: string;
  readonly name: string;

  constructor(module: string, name: string) {
    this.module = module;
    this.name = name;
  }
}

/** numpy's names of the supported value types, and the bytes per value. */
export const NUMPY_ITEM_BYTES = { b1: 1, i1: 1, u1: 1, i2: 2, u2: 2, f2: 2, i4: 4, u4: 4, f4: 4, i8: 8, u8: 8, f8: 8 } as const;

export type NumpyKind = keyof typeof NUMPY_ITEM_BYTES;

/** `numpy.dtype`, always little-endian. */
export class NumpyDtype {
  readonly kind: NumpyKind;

  constructor(kind: NumpyKind) {
    this.kind = kind;
  }
}

/** `numpy.ndarray`. Its bytes are a view of the file's if the pickle stores them as bytes; they may be unaligned. */
export class NumpyArray {
  dtype: NumpyKind = "i1";
  shape: readonly number[] = [0];
  /** Whether the first index varies fastest instead of the last. */
  fortranOrder = false;
  /** The values, `[product of shape]` of the dtype, in the order given by `fortranOrder`. */
  bytes: Uint8Array = new Uint8Array();

  get size(): number {
    return this.shape.reduce((product, side) => product * side, 1);
  }

  /** Returns the bytes in row-major order: `bytes` itself if they already are. */
  rowMajorBytes(): Uint8Array {
    if (!this.fortranOrder || this.shape.filter((side) => side > 1).length < 2) return this.bytes;
    return toRowMajor(this.bytes, this.shape, NUMPY_ITEM_BYTES[this.dtype]);
  }
}

/** Converts from Fortran order: writes the target sequentially and strides through the source. */
function toRowMajor(from: Uint8Array, shape: readonly number[], itemBytes: number): Uint8Array {
  const to = new Uint8Array(from.length);
  const strides = shape.map((_, axis) => itemBytes * shape.slice(0, axis).reduce((product, side) => product * side, 1));
  const index = shape.map(() => 0);
  let source = 0;
  for (let target = 0; target < to.length; target += itemBytes) {
    for (let byte = 0; byte < itemBytes; byte++) to[target + byte] = from[source + byte] as number;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const stride = strides[axis] as number;
      const next = (index[axis] as number) + 1;
      source += stride;
      index[axis] = next;
      if (next < (shape[axis] as number)) break;
      source -= stride * next;
      index[axis] = 0;
    }
  }
  return to;
}
