import { z } from "zod";
import { parseByteSize, parseDecimal } from "../base/numbers.js";
import { expandHome, URL_PROBLEM, urlRemedy } from "../base/paths.js";
import { showChoices } from "../base/shown-value.js";

// The types of config values.

/** A type of value: its schema, its range in words for error messages and documentation, and all its values if they are few. */
export interface ValueType<T> {
  readonly schema: z.ZodType<T>;
  readonly expected: string;
  readonly choices?: readonly string[];
}

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

/** Integers in `min`..`max` (the default maximum is that of int32, which TensorFlow uses for counts). */
export function integer(min: number, max: number = 2 ** 31 - 1): ValueType<number> {
  return { schema: z.preprocess(parseLiteral, z.int().min(min).max(max)), expected: `an integer from ${min} to ${max}` };
}

/** A number of bytes in `min`..`max`, or text with a unit: `512M`, `1GiB`. */
export function byteSize(min: number, max: number): ValueType<number> {
  const parse = (value: unknown): unknown => (typeof value === "string" ? parseByteSize(value) : value);
  return {
    schema: z.preprocess(parse, z.int().min(min).max(max)),
    expected: `a size from ${min} to ${max} bytes, such as 268435456 or 256M`,
  };
}

/**
 * Whether a number is in the normal range of float32, which the device computes in. A smaller number may become 0, which silently disables what it scales, and
 * a larger one becomes Inf.
 */
function fitsFloat32(value: number): boolean {
  const rounded = Math.fround(value);
  return Math.abs(rounded) >= 2 ** -126 && Number.isFinite(rounded);
}

const FLOAT32_RANGE = "1.2e-38 to 3.4e38";

/** 0, or positive numbers in the normal range of float32. */
export const nonNegative: ValueType<number> = {
  schema: z.preprocess(
    parseLiteral,
    z
      .number()
      .min(0)
      .refine((value) => value === 0 || fitsFloat32(value)),
  ),
  expected: `0, or a number from ${FLOAT32_RANGE}`,
};

/** Positive numbers in the normal range of float32. */
export const positive: ValueType<number> = {
  schema: z.preprocess(parseLiteral, z.number().gt(0).refine(fitsFloat32)),
  expected: `a number from ${FLOAT32_RANGE}`,
};

/** Numbers from 0 to below 1, also after rounding to float32. */
export const fraction: ValueType<number> = {
  schema: z.preprocess(
    parseLiteral,
    z
      .number()
      .min(0)
      .refine((value) => Math.fround(value) < 1),
  ),
  expected: "a number from 0 to below 1 (at most 0.9999999)",
};

/** A local path with `~` expanded. Whether the file exists is checked when it is read. */
export const path: ValueType<string> = {
  schema: z
    .string()
    .min(1)
    .superRefine((value, context) => {
      const remedy = urlRemedy(value);
      if (remedy !== null) context.addIssue({ code: "custom", params: { what: URL_PROBLEM, remedy } });
    })
    .transform(expandHome),
  expected: "a path",
};

/** Shards: a file that lists them, a glob or a shard; or several of these. */
export const fileList: ValueType<string | readonly string[]> = {
  schema: z
    .preprocess((value) => (typeof value === "string" ? [value] : value), z.array(path.schema).min(1))
    .transform((paths) => (paths.length === 1 ? (paths[0] as string) : paths)),
  expected: "a path, or a list of paths",
};

/** A type, or null (`null`, `~` or Python's `None`). */
export function nullable<T>(type: ValueType<T>): ValueType<T | null> {
  const schema = z.preprocess((value) => (parseLiteral(value) === null ? null : value), z.nullable(type.schema));
  return { schema, expected: `${type.expected}, or null` };
}

/** True or False. */
export const boolean: ValueType<boolean> = {
  schema: z.preprocess(parseLiteral, z.boolean()),
  expected: "True or False",
  choices: ["True", "False"],
};

/** Where to compute. `true` is strict: without a CUDA device it is an error. */
export const device: ValueType<boolean | "auto"> = {
  schema: z.preprocess(
    (value) => (typeof value === "string" && value.toLowerCase() === "auto" ? "auto" : parseLiteral(value)),
    z.union([z.boolean(), z.literal("auto")]),
  ),
  expected: "True, False or auto",
  choices: ["True", "False", "auto"],
};

/** One of several words: `choice("stop", "skip-batch")`. */
export function choice<const T extends readonly [string, string, ...string[]]>(...words: T): ValueType<T[number]> {
  return { schema: z.enum(words), expected: showChoices(words), choices: words };
}

/**
 * What to do about corrupt data in a shard. "error": the run ends. "skip-record": skips the record, or the rest of the shard if the next record cannot be found
 * (an invalid length, a truncated file, corrupt compression). "skip-shard": skips the rest of the shard at the first corrupt record.
 */
export type CorruptPolicy = "error" | "skip-record" | "skip-shard";

/** The models, by MODEL.name; the first is the default. */
export const MODEL_NAMES = ["NEXTVLAD", "NETVLAD", "MIX_NEXTVLAD"] as const;

/** The name of a model, case-insensitive. */
export const modelName: ValueType<(typeof MODEL_NAMES)[number]> = {
  schema: z.preprocess((value) => (typeof value === "string" ? value.toUpperCase() : value), z.enum(MODEL_NAMES)),
  expected: choice(...MODEL_NAMES).expected,
  choices: MODEL_NAMES,
};

/** Two different names. */
export const namePair: ValueType<readonly [string, string]> = {
  schema: z
    .tuple([z.string().min(1), z.string().min(1)])
    .readonly()
    .refine(([first, second]) => first !== second),
  expected: "a list of two different names",
};
