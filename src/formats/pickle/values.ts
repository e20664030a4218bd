import { type NumpyDtype, toRowMajor } from "../tensors/numpy.js";

/**
 * What is read for Python's types: `int` a number if exact, otherwise a bigint; `str` a string; `bytes` (and Python 2's `str`) a Uint8Array; `list` an array;
 * `dict` a Map.
 */
export type PickledValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | LazyString
  | Tuple<PickledValue>
  | PickledValue[]
  | PickledDict
  | NumpyArray
  | NumpyType
  | Global;

/** A `dict`; keys that were bytes are converted to text. */
export type PickledDict = Map<string, PickledValue>;

/**
 * What can be written, and its Python type: number is `float` (always, even 1), bigint `int`, string `str`, null `None`; a Map a `dict`, `ByteString` Python
 * 2's `str`, `Bytes` bytes; a float array is a list of floats, an int array a list of ints, any other iterable a list.
 */
export type Picklable =
  | null
  | boolean
  | number
  | bigint
  | string
  | Tuple<Picklable>
  | ByteString
  | Bytes
  | Global
  | ReducedObject
  | FloatArray
  | IntArray
  | ReadonlyMap<Picklable, Picklable>
  | Iterable<Picklable>;

type FloatArray = Float32Array | Float64Array;
type IntArray = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | BigInt64Array | BigUint64Array;

/** A `tuple`. */
export class Tuple<T> {
  readonly items: readonly T[];

  constructor(items: readonly T[]) {
    this.items = items;
  }
}

/** A class or function, by its module and name. When read, one of the few that arrays need, named as in the pickle. */
export class Global {
  readonly module: string;
  readonly name: string;

  constructor(module: string, name: string) {
    this.module = module;
    this.name = name;
  }
}

/** A long `str` that is decoded on demand: usually the bytes of an array in protocol 2 of Python 3. */
export class LazyString {
  readonly utf8: Uint8Array;

  constructor(utf8: Uint8Array) {
    this.utf8 = utf8;
  }
}

/** A `numpy.dtype`, always little-endian. */
export class NumpyType {
  readonly dtype: NumpyDtype;

  constructor(dtype: NumpyDtype) {
    this.dtype = dtype;
  }
}

/** A `numpy.ndarray`. Its bytes are a view of the file's if the pickle stores them as bytes; they may be unaligned. */
export class NumpyArray {
  dtype: NumpyDtype = "i1";
  shape: readonly number[] = [0];
  /** Whether the first index varies fastest instead of the last. */
  fortranOrder = false;
  /** The values, `[product of shape]` of the dtype, in the order given by `fortranOrder`. */
  bytes: Uint8Array = new Uint8Array();

  /** Returns the bytes in row-major order: `bytes` itself if they already are. */
  rowMajorBytes(): Uint8Array {
    if (!this.fortranOrder || this.shape.filter((size) => size > 1).length < 2) return this.bytes;
    return toRowMajor(this.bytes, this.shape, this.dtype);
  }
}

/** Python 2's `str`. Python 3 loads it as `bytes` with `encoding="bytes"`, as `str` with `encoding="latin1"`, and by default only if it is ASCII. */
export class ByteString {
  readonly bytes: Uint8Array;

  constructor(content: Uint8Array | string) {
    this.bytes = typeof content === "string" ? Buffer.from(content, "utf8") : content;
  }
}

/** Python bytes (Python 2: `str`) for any `encoding` of the loader, encoded at up to twice the size. */
export class Bytes {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

/** The object that `callable(*args)` returns, with its state set afterwards (Python's `__reduce__`). */
export class ReducedObject {
  readonly callable: Global;
  readonly args: Tuple<Picklable>;
  readonly state: Picklable;

  constructor(callable: Global, args: Tuple<Picklable>, state: Picklable) {
    this.callable = callable;
    this.args = args;
    this.state = state;
  }
}
