import { InvalidArgumentError } from "commander";
import type { SaveInterval } from "../training/save-interval.js";

/** Flags of every command that has a config. Text that a config key takes is checked with the config. */
export interface ConfigFlags {
  readonly modelName?: string;
  readonly config?: string;
  readonly batchSize?: string;
  /** `true` for the bare flag. */
  readonly useGpu?: string | true;
  readonly saveDir: string;
  /** In steps; 0 for no lines. */
  readonly logInterval: number;
  /** `SECTION.key=value`, each. */
  readonly set?: readonly string[];
}

/** Flags of `nextvlad train`. */
export interface TrainFlags extends ConfigFlags {
  readonly learningRate?: string;
  readonly epoch?: string;
  readonly pretrain?: string;
  /** `true` for the bare flag: the newest good snapshot in the save-dir. */
  readonly resume?: string | true;
  readonly overwrite?: true;
  /** In epochs; 0 for no validation. */
  readonly validInterval: number;
  /** Left out for none inside an epoch. */
  readonly saveInterval?: SaveInterval;
  /** In snapshots; left out for all. */
  readonly keep?: number;
  /** `true` for the bare flag. */
  readonly fixRandomSeed?: string | true;
}

/** Flags of `nextvlad eval`. */
export interface EvalFlags extends ConfigFlags {
  readonly weights: string;
  readonly filelist?: string;
}

/** Flags of `nextvlad infer`. */
export interface InferFlags extends EvalFlags {
  readonly inferTopk: number;
}

/** Flags of `nextvlad digits`. */
export interface DigitsFlags {
  readonly out: string;
  readonly trainVideos: number;
  readonly validateVideos: number;
  readonly seed: number;
}

/** A parser of whole numbers in `least`..`most`, for flags that are no config keys. */
export function integer(least: number, most: number = 2 ** 31 - 1): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\s*\+?\d+\s*$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It takes a whole number, ${least} to ${most}.`);
  };
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000 };

/** A parser of `500` (steps) and `30m`, `90s`, `2h`. */
export function interval(text: string): SaveInterval {
  const [, digits, unit = ""] = /^\s*(\d+)\s*([smh]?)\s*$/.exec(text) ?? [];
  const count = Number(digits);
  if (!(count >= 1 && count < 2 ** 31)) throw new InvalidArgumentError("It takes steps, like 500, or a time, like 90s, 30m or 2h.");
  return unit === "" ? { steps: count } : { ms: count * (UNIT_MS[unit] as number) };
}

/** A parser for flags that may be repeated: gathers what each brings. */
export function gather(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}
