/** Each character can only be of one part, so that what is none is known in one pass, however long it is. */
const DECIMAL = /^[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?$/;

/** The number that a decimal, `-1`, `.5`, `1e-5`, stands for; NaN for whatever is none: no blanks, no other bases, no infinity. */
export function parseDecimal(text: string): number {
  return DECIMAL.test(text) ? Number(text) : Number.NaN;
}
