import { InvalidArgumentError } from "commander";
import { LARGEST_MAX_RECORD_BYTES, parseByteSize } from "../base/byte-size.js";
import { localPath } from "../base/paths.js";
import type { SaveInterval } from "../base/save-interval.js";
import type { ExportFormat } from "../checkpoints/export.js";
import type { FeatureDtype } from "../conversion/task.js";
import type { FileList } from "../data/file-list.js";
import { isResultFormat, RESULT_FORMATS, type ResultFormat } from "../results/result-formats.js";

/** Flags of every command that has a config. Text values of config keys are validated with the config. */
export interface ConfigFlags {
  readonly modelName?: string;
  readonly config?: string;
  readonly batchSize?: string;
  /** `true` for the bare flag. */
  readonly useGpu?: string | true;
  readonly onCorrupt?: string;
  readonly maxRecordBytes?: string;
  readonly saveDir: string;
  /** In steps; 0 disables logging. `train` has a default; if undefined, `eval` and `infer` log by time. */
  readonly logInterval?: number;
  /** Each is `SECTION.key=value`. */
  readonly set?: readonly string[];
}

/** Flags of `nextvlad train`. */
export interface TrainFlags extends ConfigFlags {
  readonly logInterval: number;
  readonly learningRate?: string;
  readonly onNan?: string;
  readonly epoch?: string;
  readonly pretrain?: string;
  /** `true` for the bare flag: the newest valid snapshot in the save-dir. */
  readonly resume?: string | true;
  /** Steps taken, for Paddle's weights that do not record them. */
  readonly resumeStep?: number;
  readonly precision?: string;
  readonly overwrite?: true;
  /** In epochs; 0 disables validation. */
  readonly validInterval: number;
  /** Undefined: no snapshots inside an epoch. */
  readonly saveInterval?: SaveInterval;
  /** Number of snapshots; undefined: all. */
  readonly keep?: number;
  /** `true` for the bare flag. */
  readonly fixRandomSeed?: string | true;
}

/** Flags of commands that save partial results when they are stopped. */
export interface ResumeFlags {
  readonly resume?: true;
  readonly saveInterval?: SaveInterval;
  readonly overwrite?: true;
}

/** Flags of `nextvlad eval`. */
export interface EvalFlags extends ConfigFlags, ResumeFlags {
  /** Undefined: the published weights in ~/.paddle/weights. */
  readonly weights?: string;
  readonly filelist?: FileList;
  readonly precision?: string;
  /** `true` for the bare flag. */
  readonly predictions?: readonly ResultFormat[] | true;
  readonly labels?: string;
}

/** Flags of `nextvlad infer`. */
export interface InferFlags extends Omit<EvalFlags, "predictions"> {
  readonly inferTopk: number;
  readonly format: readonly ResultFormat[];
}

/** Flags of `nextvlad ensemble`. */
export interface EnsembleFlags {
  readonly weights?: readonly number[];
  readonly inferTopk: number;
  readonly format: readonly ResultFormat[];
  readonly labels?: string;
  readonly saveDir: string;
  readonly overwrite?: true;
  readonly filelist?: FileList;
  readonly config?: string;
  /** Each is `SECTION.key=value`. */
  readonly set?: readonly string[];
}

/** Flags of `nextvlad export`. */
export interface ExportFlags extends Pick<ConfigFlags, "config" | "set"> {
  /** Undefined: the published weights in ~/.paddle/weights. */
  readonly weights?: string;
  readonly format: ExportFormat;
  readonly out: string;
  readonly overwrite?: true;
}

/** Flags of `nextvlad digits`. */
export interface DigitsFlags {
  readonly out: string;
  readonly trainVideos: number;
  readonly validateVideos: number;
  readonly seed: number;
  readonly overwrite?: true;
}

/** Flags of `nextvlad setup`. */
export interface SetupFlags {
  readonly device?: string;
}

/** Flags of `nextvlad convert`. */
export interface ConvertFlags {
  readonly to: "tfrecord" | "pkl";
  readonly out: string;
  readonly filelist?: FileList;
  readonly featureNames: readonly [string, string];
  readonly featureDtype?: FeatureDtype;
  readonly csv?: string;
  readonly rgb?: string;
  readonly audio?: string;
  readonly rgbRange: readonly [number, number];
  readonly audioRange: readonly [number, number];
  readonly videosPerShard: number;
  readonly maxFrames: number;
  readonly workers: number;
  readonly overwrite?: true;
  readonly maxRecordBytes?: number;
}

// Parsers of flag values. The message of an InvalidArgumentError is the expected value: see `describeFailure`.

/** Parses the path of a file, folder or list, or a pattern. */
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
  throw new InvalidArgumentError("two numbers, the lower first, like -2..2");
}

/** Parses two different names: `rgb,audio`. */
export function twoNames(text: string): readonly [string, string] {
  const [first, second, ...more] = text.split(",").map((name) => name.trim());
  if (first && second && first !== second && more.length === 0) return [first, second];
  throw new InvalidArgumentError("two different names, like rgb,audio");
}

/** Flags of `nextvlad verify`. */
export interface VerifyFlags {
  readonly config?: string;
  readonly maxRecordBytes?: string;
  readonly set?: readonly string[];
  readonly readers?: number;
  readonly requireLabels?: true;
  readonly json?: true;
}

/** Flags of `nextvlad inspect`. */
export interface InspectFlags {
  readonly maxRecordBytes?: number;
  readonly json?: true;
}

/** Returns a parser of integers in `least`..`most`, for flags that are not config keys. */
export function integer(least: number, most: number = 2 ** 31 - 1): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\s*\+?\d+\s*$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`a whole number, ${least} to ${most}`);
  };
}

/** Parses a maximum record size in bytes: `268435456`, `512M`, `1GiB`. */
export function recordLimit(text: string): number {
  const bytes = parseByteSize(text);
  if (bytes >= 1 && bytes <= LARGEST_MAX_RECORD_BYTES) return bytes;
  throw new InvalidArgumentError(`a number of bytes, 1 to ${LARGEST_MAX_RECORD_BYTES}, like 268435456 or 256M`);
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000 };

/** Parses `500` (steps), or `30m`, `90s`, `2h` (time). */
export function interval(text: string): SaveInterval {
  const [, digits, unit = ""] = /^\s*(\d+)\s*([smh]?)\s*$/.exec(text) ?? [];
  const count = Number(digits);
  if (!(count >= 1 && count < 2 ** 31)) throw new InvalidArgumentError("steps, like 500, or a time, like 90s, 30m or 2h");
  return unit === "" ? { steps: count } : { ms: count * (UNIT_MS[unit] as number) };
}

/** Parses a flag that may be repeated: appends the value to those before. */
export function gather(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}

/** Parses result formats, each at most once: `pickle,csv,jsonl`. */
export function resultFormats(text: string): readonly ResultFormat[] {
  const words = text.split(",").map((word) => word.trim());
  const formats = words.filter(isResultFormat);
  if (formats.length === words.length && new Set(formats).size === formats.length) return formats;
  throw new InvalidArgumentError(`one or more of ${Object.keys(RESULT_FORMATS).join(", ")}, each once, with commas between them`);
}

/** Parses numbers of at least 0, not all 0: `0.5,0.5`. */
export function shares(text: string): readonly number[] {
  const values = text.split(",").map((word) => (word.trim() === "" ? Number.NaN : Number(word)));
  if (values.every((value) => value >= 0 && Number.isFinite(value)) && values.some((value) => value > 0)) return values;
  throw new InvalidArgumentError("numbers of 0 or more, not all 0, with commas between them");
}
