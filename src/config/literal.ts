import { parseDecimal } from "../base/decimal.js";

const WORDS: ReadonlyMap<string, boolean | null> = new Map([
  ["true", true],
  ["false", false],
  ["none", null],
  ["null", null],
  ["~", null],
]);

/**
 * Parses a scalar written as text: `True` and `false` are booleans, `None` is null, `1e-5` is a number; other values are returned unchanged.
 * PaddleVideo passes every string of its YAML through Python's `literal_eval`, so its users quote numbers and write `True`; flag values are always text.
 */
export function parseLiteral(value: unknown): unknown {
  if (typeof value !== "string") return value;
  const text = value.trim();
  const word = WORDS.get(text.toLowerCase());
  if (word !== undefined) return word;
  const number = parseDecimal(text);
  return Number.isNaN(number) ? value : number;
}
