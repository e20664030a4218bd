/**
 * Values that can be pickled, and their Python types: number is `float` (always, even 1), bigint `int`, string `str`, null `None`; `Tuple` is a tuple, a Map a
 * dict, `ByteString` Python 2's `str`, `Bytes` bytes; a float array is a list of floats, an int array a list of ints, any other iterable a list. `Global` is a
 * class or function, and `Built` an object that calling one returns.
 */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Tuple
  | ByteString
  | Bytes
  | Global
  | Built
  | FloatArray
  | IntArray
  | ReadonlyMap<PickleValue, PickleValue>
  | Iterable<PickleValue>;

type FloatArray = Float32Array | Float64Array;
type IntArray = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | BigInt64Array | BigUint64Array;

/** A Python tuple. */
export class Tuple {
  readonly items: readonly PickleValue[];

  constructor(...items: readonly PickleValue[]) {
    this.items = items;
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

/** A class or function, by its module and name. */
export class Global {
  readonly module: string;
  readonly name: string;

  constructor(module: string, name: string) {
    this.module = module;
    this.name = name;
  }
}

/** The object that `callable(*args)` returns, with its state set afterwards. */
export class Built {
  readonly callable: Global;
  readonly args: Tuple;
  readonly state: PickleValue;

  constructor(callable: Global, args: Tuple, state: PickleValue) {
    this.callable = callable;
    this.args = args;
    this.state = state;
  }
}
