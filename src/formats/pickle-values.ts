/** What a Python object becomes: `int` number where that is exact, else bigint; `str` string; `bytes` (and Python 2's `str`) Uint8Array; `list` array; `dict` Map. */
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

/** A `dict`; keys that were bytes are text too. */
export type PickledDict = Map<string, PickledValue>;

/** A `tuple`. */
export class PickledTuple {
  readonly items: readonly PickledValue[];

  constructor(items: readonly PickledValue[]) {
    this.items = items;
  }
}

/** A `str` too long to be made a string unasked: what protocol 2 of Python 3 keeps an array's bytes in, most of the time. */
export class PickledText {
  readonly utf8: Uint8Array;

  constructor(utf8: Uint8Array) {
    this.utf8 = utf8;
  }
}

/** One of the few globals that may be named, by module and name as the pickle names it. */
export class PickledGlobal {
  readonly module: string;
  readonly name: string;

  constructor(module: string, name: string) {
    this.module = module;
    this.name = name;
  }
}

/** numpy's names of the types of value that are read, and what one takes in bytes. */
export const NUMPY_ITEM_BYTES = { b1: 1, i1: 1, u1: 1, i2: 2, u2: 2, f2: 2, i4: 4, u4: 4, f4: 4, i8: 8, u8: 8, f8: 8 } as const;

export type NumpyKind = keyof typeof NUMPY_ITEM_BYTES;

/** `numpy.dtype`; little-endian, as all here is. */
export class NumpyDtype {
  readonly kind: NumpyKind;

  constructor(kind: NumpyKind) {
    this.kind = kind;
  }
}

/** `numpy.ndarray`. Its bytes are the file's own where the pickle keeps them as bytes; they may start anywhere, aligned for nothing. */
export class NumpyArray {
  dtype: NumpyKind = "i1";
  shape: readonly number[] = [0];
  /** Whether the first index runs fastest, not the last. */
  fortranOrder = false;
  /** product of shape items, in the order that `fortranOrder` says. */
  bytes: Uint8Array = new Uint8Array();

  get size(): number {
    return this.shape.reduce((product, side) => product * side, 1);
  }

  /** The bytes with the last index running fastest: `bytes` itself where they are so already. */
  rowMajorBytes(): Uint8Array {
    if (!this.fortranOrder || this.shape.filter((side) => side > 1).length < 2) return this.bytes;
    return toRowMajor(this.bytes, this.shape, NUMPY_ITEM_BYTES[this.dtype]);
  }
}

/** Goes through the target in order; the innermost index strides through the source. */
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
