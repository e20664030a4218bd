import { InvalidArgumentError } from "commander";
import type { Interval, ValidationInterval } from "../base/interval.js";
import { LARGEST_MAX_RECORD_BYTES, parseByteSize } from "../base/numbers.js";
import { localPath } from "../base/paths.js";
import { showChoices } from "../base/shown-value.js";
import type { FileList } from "../data/file-list.js";
import { isResultFormat, RESULT_FORMATS, type ResultFormat } from "../results/result-formats.js";

// Parsers of flag values and arguments. The message of an InvalidArgumentError is the expected value: see `formatFailure`.

/** Parses the path of a file, directory or list, or a pattern. */
export function path(text: string): string {
  if (text === "") throw new InvalidArgumentError("a path");
  return localPath(text);
}

/** Parses one of several paths: appends it to those before. */
export function paths(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, path(text)];
}

/** Parses a list of shards, for flags and arguments that take several: a shell expands an unquoted glob to several arguments. */
export function fileLists(text: string, before?: FileList): FileList {
  return before === undefined ? path(text) : [...(typeof before === "string" ? [before] : before), path(text)];
}

/** Parses a flag that may be repeated: appends the value to those before. */
export function repeated(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}

/** Returns a parser of integers in `min`..`max`, for flags that are not config keys. */
export function integer(min: number, max: number = 2 ** 31 - 1): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\s*\+?\d+\s*$/.test(text) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`an integer from ${min} to ${max}`);
  };
}

/** Parses a maximum record size in bytes: `268435456`, `512M`, `1GiB`. */
export function recordLimit(text: string): number {
  const bytes = parseByteSize(text);
  if (bytes >= 1 && bytes <= LARGEST_MAX_RECORD_BYTES) return bytes;
  throw new InvalidArgumentError(`a size from 1 to ${LARGEST_MAX_RECORD_BYTES} bytes, such as 268435456 or 256M`);
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000 };

/** Parses `500` (steps), or `30m`, `90s`, `2h` (time). */
export function interval(text: string): Interval {
  const [, digits, unit = ""] = /^\s*(\d+)\s*([smh]?)\s*$/.exec(text) ?? [];
  const count = Number(digits);
  if (!(count >= 1 && count < 2 ** 31)) throw new InvalidArgumentError("a number of steps, such as 500, or a time, such as 90s, 30m or 2h");
  return unit === "" ? { steps: count } : { ms: count * (UNIT_MS[unit] as number) };
}

/** Parses `2` (epochs), or `500steps`. */
export function validationInterval(text: string): ValidationInterval {
  const [, digits, unit] = /^\s*(\d+)\s*(steps)?\s*$/.exec(text) ?? [];
  const count = Number(digits);
  const isValid = digits !== undefined && count < 2 ** 31 && (unit === undefined || count > 0);
  if (!isValid) throw new InvalidArgumentError("a number of epochs, such as 1, or of steps, such as 500steps");
  return unit === undefined ? { epochs: count } : { steps: count };
}

/** Parses a range, `-2..2`, whose width must be valid for scaling values to bytes. */
export function range(text: string): readonly [number, number] {
  const [low, high, ...more] = text.split("..").map((part) => (part.trim() === "" ? Number.NaN : Number(part)));
  if (
    low !== undefined &&
    high !== undefined &&
    more.length === 0 &&
    low < high &&
    Number.isFinite(high - low) &&
    Number.isFinite(255 / (high - low))
  )
    return [low, high];
  throw new InvalidArgumentError("two numbers, the smaller first, such as -2..2");
}

/** Parses two different names: `rgb,audio`. */
export function twoNames(text: string): readonly [string, string] {
  const [first, second, ...more] = text.split(",").map((name) => name.trim());
  if (first && second && first !== second && more.length === 0) return [first, second];
  throw new InvalidArgumentError("two different names, such as rgb,audio");
}

/** Parses result formats, each at most once: `pickle,csv,jsonl`. */
export function resultFormats(text: string): readonly ResultFormat[] {
  const words = text.split(",").map((word) => word.trim());
  const formats = words.filter(isResultFormat);
  if (formats.length === words.length && new Set(formats).size === formats.length) return formats;
  throw new InvalidArgumentError(`${showChoices(Object.keys(RESULT_FORMATS))}, or several of them separated by commas, each once`);
}

/** Parses weights of at least 0, not all 0: `0.5,0.5`. */
export function fileWeights(text: string): readonly number[] {
  const values = text.split(",").map((word) => (word.trim() === "" ? Number.NaN : Number(word)));
  if (values.every((value) => value >= 0 && Number.isFinite(value)) && values.some((value) => value > 0)) return values;
  throw new InvalidArgumentError("numbers of at least 0, not all 0, separated by commas");
}

/** Returns the value of `--epoch` for the config: undefined for 0, which PaddleVideo uses for the config's own value. */
export function epochs(text: string | true): string | undefined {
  return text === "0" || text === true ? undefined : text;
}

/** Returns what a flag `--no-x` sets: false. Without the flag, the parser's value is true; then undefined, which keeps the config's own value. */
export function negated(value: boolean): false | undefined {
  return value ? undefined : false;
}

/** Whether `--fix-random-seed` requests a seed from the clock. */
export function wantsRandomSeed(choice: string | true | undefined): boolean {
  return typeof choice === "string" && /^false$/i.test(choice);
}

/**
 * Returns the seed that `--fix-random-seed` sets: undefined for `True`, which keeps TRAIN.seed; for `False` a seed from the clock. Every run is seeded.
 */
export function seed(choice: string | true): string | undefined {
  if (choice === true || /^true$/i.test(choice)) return undefined;
  return wantsRandomSeed(choice) ? String(Date.now() % 2 ** 32) : choice;
}

/** The shells that have a completion script. */
export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

/** Parses the name of a shell. */
export function shell(text: string): Shell {
  const found = SHELLS.find((name) => name === text);
  if (found === undefined) throw new InvalidArgumentError(showChoices(SHELLS));
  return found;
}
