import { parseDecimal } from "../base/decimal.js";

const WORDS: ReadonlyMap<string, boolean | null> = new Map([
  ["true", true],
  ["false", false],
  ["none", null],
  ["null", null],
  ["~", null],
]);

/**
 * The value that a scalar written as text stands for: `True` and `false` are booleans, `None` is null, `1e-5` a number; all else stays as it is.
 * PaddleVideo passes every string of its YAML through Python's `literal_eval`, so its users quote numbers and write `True`; flags are text anyway.
 */
export function parseLiteral(value: unknown): unknown {
  if (typeof value !== "string") return value;
  const text = value.trim();
  const word = WORDS.get(text.toLowerCase());
  if (word !== undefined) return word;
  const number = parseDecimal(text);
  return Number.isNaN(number) ? value : number;
}
