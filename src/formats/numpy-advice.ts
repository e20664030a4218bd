/**
 * Returns advice on how to save an array of an unsupported type, given the type's name in numpy (`descr`, such as `|i1`, `>f4`, `|O`, with or without its byte
 * order): a sentence without capital or period.
 */
export function adviseOnDtype(descr: string): string {
  const [, order, kind = "", digits = ""] = /^([<>=|]?)([a-zA-Z?])(\d*)/.exec(descr) ?? [];
  if (order === ">" && /[iuf]/.test(kind)) return LITTLE_ENDIAN;
  switch (kind) {
    case "i":
      if (digits === "1") {
        return "int8 is ambiguous: save the float features, or, if they were quantised around 0, as uint8: (array.astype('<i2') + 128).astype('|u1')";
      }
      return INTEGERS;
    case "u":
      return INTEGERS;
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

/** Advice for arrays of big-endian numbers. */
export const LITTLE_ENDIAN = "convert it with array.astype(array.dtype.newbyteorder('<')) in numpy";

const INTEGERS = "save array.astype('|u1') if every value is in 0..255, else the features as float32";
