import { InvalidArgumentError } from "commander";
import type { ExportFormat } from "../checkpoints/export.js";

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
  readonly resume?: string;
  /** Steps taken, for weights of Paddle's that do not tell. */
  readonly resumeStep?: number;
  readonly overwrite?: true;
  /** In epochs; 0 for no validation. */
  readonly validInterval: number;
  /** `true` for the bare flag. */
  readonly fixRandomSeed?: string | true;
}

/** Flags of `nextvlad eval`. */
export interface EvalFlags extends ConfigFlags {
  /** Left out for the published ones in ~/.paddle/weights. */
  readonly weights?: string;
  readonly filelist?: string;
}

/** Flags of `nextvlad infer`. */
export interface InferFlags extends EvalFlags {
  readonly inferTopk: number;
}

/** Flags of `nextvlad export`. */
export interface ExportFlags extends Pick<ConfigFlags, "config" | "set"> {
  /** Left out for the published ones in ~/.paddle/weights. */
  readonly weights?: string;
  readonly format: ExportFormat;
  readonly out: string;
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

/** A parser for flags that may be repeated: gathers what each brings. */
export function gather(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}
