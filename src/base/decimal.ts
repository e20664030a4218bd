/** Each character can match only one part of the pattern, so matching takes linear time also for long text that does not match. */
const DECIMAL = /^[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?$/;

/** Parses a decimal number such as `-1`, `.5` or `1e-5`; NaN for anything else, including blanks, other bases and Infinity. */
export function parseDecimal(text: string): number {
  return DECIMAL.test(text) ? Number(text) : Number.NaN;
}
