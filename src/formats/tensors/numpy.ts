import { countValues } from "../../base/numbers.js";

/** The typed array for the values of each numpy type; float16 is stored as raw bits. */
const ARRAYS = {
  b1: Uint8Array,
  i1: Int8Array,
  u1: Uint8Array,
  i2: Int16Array,
  u2: Uint16Array,
  f2: Uint16Array,
  i4: Int32Array,
  u4: Uint32Array,
  f4: Float32Array,
  i8: BigInt64Array,
  u8: BigUint64Array,
  f8: Float64Array,
} as const;

/** A value type, named as in numpy's `descr` without the byte order: kind and bytes. Always little-endian here. */
export type NumpyDtype = keyof typeof ARRAYS;

/** The array of the values of a type: float16 is converted to float32. */
export type NumpyValues<D extends NumpyDtype> = D extends "f2" ? Float32Array : InstanceType<(typeof ARRAYS)[D]>;

/** All supported types, by name. */
export const NUMPY_DTYPES = Object.keys(ARRAYS) as readonly NumpyDtype[];

export function isNumpyDtype(name: string): name is NumpyDtype {
  return Object.hasOwn(ARRAYS, name);
}

/** Bytes of one value. */
export function itemBytes(dtype: NumpyDtype): number {
  return ARRAYS[dtype].BYTES_PER_ELEMENT;
}

/**
 * Returns an array's values: a view of `bytes` if they are aligned, else a copy. `bytes` are little-endian. float16 is converted to float32, which is exact;
 * booleans are 0 and 1.
 */
export function decodeNumpy<D extends NumpyDtype>(bytes: Uint8Array, dtype: D): NumpyValues<D> {
  // Not slice(): on a Buffer it returns a view, not a copy.
  const { buffer, byteOffset, length } = bytes.byteOffset % itemBytes(dtype) === 0 ? bytes : new Uint8Array(bytes);
  const values = new ARRAYS[dtype](buffer as ArrayBuffer, byteOffset, length / itemBytes(dtype));
  return (dtype === "f2" ? decodeFloat16(values as Uint16Array) : values) as NumpyValues<D>;
}

/** Returns the float32 values of IEEE 754 half-precision numbers (binary16), exactly. */
function decodeFloat16(halves: Uint16Array): Float32Array {
  const values = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) values[i] = float16(halves[i] as number);
  return values;
}

function float16(bits: number): number {
  const sign = bits >> 15 === 0 ? 1 : -1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  // Subnormal: no implicit leading one.
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/**
 * Converts an array from Fortran order (the first index varies fastest) to row-major order (the last index varies fastest). Returns new memory, written
 * sequentially.
 */
export function toRowMajor(from: Uint8Array, shape: readonly number[], dtype: NumpyDtype): Uint8Array {
  const to = new Uint8Array(from.length);
  const size = itemBytes(dtype);
  const strides = shape.map((_, axis) => size * countValues(shape.slice(0, axis)));
  const index = shape.map(() => 0);
  let source = 0;
  for (let target = 0; target < to.length; target += size) {
    for (let byte = 0; byte < size; byte++) to[target + byte] = from[source + byte] as number;
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

/** Remedy for arrays of big-endian numbers. */
export const LITTLE_ENDIAN_REMEDY = "convert it with array.astype(array.dtype.newbyteorder('<')) in numpy";

const INTEGER_REMEDY = "save array.astype('|u1') if every value is in 0..255, else the features as float32";

/**
 * Returns the remedy for an array of an unsupported type, given the type's name in numpy (`descr`, such as `|i1`, `>f4`, `|O`, with or without its byte order):
 * a sentence without capital or period.
 */
export function dtypeRemedy(descr: string): string {
  const [, order, kind = "", digits = ""] = /^([<>=|]?)([a-zA-Z?])(\d*)/.exec(descr) ?? [];
  if (order === ">" && /[iuf]/.test(kind)) return LITTLE_ENDIAN_REMEDY;
  switch (kind) {
    case "i":
      if (digits === "1") {
        return "int8 is ambiguous: save the float features, or, if they were quantized around 0, as uint8: (array.astype('<i2') + 128).astype('|u1')";
      }
      return INTEGER_REMEDY;
    case "u":
      return INTEGER_REMEDY;
    case "O":
      return "an object array holds Python objects, often rows of different lengths: save one array of numbers, such as numpy.stack(list(array)).astype('<f4')";
    case "f":
      return "convert it with array.astype('<f8') in numpy";
    case "b":
    case "?":
      return "convert it with array.astype('<f4') in numpy";
    default:
      return "save an array of real numbers, without fields or text";
  }
}
