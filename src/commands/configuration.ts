import { join } from "node:path";
import type { Logger } from "pino";
import { NextvladError } from "../base/errors.js";
import { showPath } from "../base/shown-value.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import { readYamlText } from "../config/file.js";
import { buildConfig, loadConfig } from "../config/load.js";
import type { Override, Overrides } from "../config/overrides.js";
import type { Config, SectionName } from "../config/schema.js";
import type { FileList } from "../data/file-list.js";
import type { ConfigFlags, EvalFlags, InferFlags, TrainFlags } from "./options.js";

/**
 * Returns the config of a command: from `--config`, else from the weights, else with the sizes inferred from the weights' shapes; flags override it.
 * Throws BAD_USAGE if none of these is available, BAD_WEIGHTS if the sizes cannot be inferred, and what `loadConfig` throws.
 */
export async function findConfig(
  flags: Pick<ConfigFlags, "config" | "set">,
  overrides: readonly Override[],
  source: WeightSource | null,
): Promise<Config> {
  const over: Overrides = { flags: overrides, settings: flags.set ?? [] };
  if (flags.config !== undefined) return loadConfig(flags.config, over);
  const remedy = "say which, like --config configs/nextvlad.yaml";
  if (source === null) throw new NextvladError("BAD_USAGE", "a config is needed", { key: "--config", remedy });
  const { snapshot, embeddedConfig, path } = source;
  if (embeddedConfig !== undefined) return buildConfig(readYamlText(embeddedConfig, path), path, over);
  if (snapshot === null) {
    const { inferModel } = await import("../checkpoints/model-arrays.js");
    return buildConfig({ MODEL: inferModel(source) }, path, over);
  }
  const { readSnapshotConfig } = await import("../checkpoints/snapshot.js");
  const value = await readSnapshotConfig(snapshot);
  if (value !== null) return buildConfig(value, join(snapshot, "config.yaml"), over);
  throw new NextvladError("BAD_USAGE", "these weights carry no config, so one is needed", { file: snapshot, key: "--config", remedy });
}

/** Returns the override of a flag as an array; empty if the flag is not given. */
export function overriding(key: string, flag: string, value: string | true | FileList | undefined): Override[] {
  return value === undefined ? [] : [{ key, flag, value }];
}

/** Returns the config overrides of `train`'s flags. As in PaddleVideo, `--batch-size` applies to validation too, and `--epoch 0` means the config's value. */
export function trainOverrides(flags: TrainFlags): readonly Override[] {
  return [
    ...overriding("MODEL.name", "--model-name", flags.modelName),
    ...overriding("MODEL.max_record_bytes", "--max-record-bytes", flags.maxRecordBytes),
    ...overriding("TRAIN.batch_size", "--batch-size", flags.batchSize),
    ...overriding("VALID.batch_size", "--batch-size", flags.batchSize),
    ...overriding("TRAIN.learning_rate", "--learning-rate", flags.learningRate),
    ...overriding("TRAIN.epoch", "--epoch", flags.epoch === "0" ? undefined : flags.epoch),
    ...overriding("TRAIN.use_gpu", "--use-gpu", flags.useGpu),
    ...overriding("TRAIN.precision", "--precision", flags.precision),
    ...overriding("TRAIN.on_corrupt", "--on-corrupt", flags.onCorrupt),
    ...overriding("TRAIN.on_nan", "--on-nan", flags.onNan),
    ...overriding("TRAIN.seed", "--fix-random-seed", chosenSeed(flags.fixRandomSeed)),
  ];
}

/** Whether `--fix-random-seed` requests a seed from the clock. */
export function isFalse(value: string | true | undefined): boolean {
  return typeof value === "string" && /^false$/i.test(value);
}

/**
 * Returns the seed that overrides TRAIN.seed, if any. Every run is seeded: `True` keeps TRAIN.seed, a number replaces it, `False` draws a seed from the clock.
 */
function chosenSeed(value: string | true | undefined): string | undefined {
  if (value === undefined || value === true || /^true$/i.test(value)) return undefined;
  return isFalse(value) ? String(Date.now() % 2 ** 32) : value;
}

/** Returns the config overrides of the flags of `eval` (section TEST) or `infer` (section INFER). */
export function readingOverrides(section: "TEST" | "INFER", flags: EvalFlags): readonly Override[] {
  return [
    ...overriding("MODEL.name", "--model-name", flags.modelName),
    ...overriding("MODEL.max_record_bytes", "--max-record-bytes", flags.maxRecordBytes),
    ...overriding(`${section}.batch_size`, "--batch-size", flags.batchSize),
    ...overriding(`${section}.filelist`, "--filelist", flags.filelist),
    ...overriding(`${section}.use_gpu`, "--use-gpu", flags.useGpu),
    ...overriding(`${section}.precision`, "--precision", flags.precision),
    ...overriding(`${section}.on_corrupt`, "--on-corrupt", flags.onCorrupt),
  ];
}

/** Batch size for inference in PaddleVideo's recipe. Every snapshot of the recipe contains it, so this value does not count as the user's choice. */
const PADDLE_INFER_BATCH_SIZE = 1;

/**
 * Returns the batch size that the user chose for `infer`: `--batch-size`, `--set INFER.batch_size`, or a config value that differs from PaddleVideo's recipe.
 * Null if there is none.
 */
export function givenBatchSize({ INFER }: Config, { batchSize, set = [] }: InferFlags): number | null {
  const isGiven = batchSize !== undefined || set.some((setting) => setting.trim().startsWith("INFER.batch_size="));
  return isGiven || INFER.batch_size !== PADDLE_INFER_BATCH_SIZE ? INFER.batch_size : null;
}

/** Maximum number of list items in a log line. */
const NAMED_ITEMS = 3;

function formatList(items: readonly string[]): string {
  const named = items.slice(0, NAMED_ITEMS).join(" ");
  return items.length > NAMED_ITEMS ? `${named} and ${items.length - NAMED_ITEMS} more` : named;
}

/** Logs the sections that a command reads, one per line. */
export function logConfig(log: Logger, config: Config, names: readonly SectionName[]): void {
  for (const name of names) {
    const values = Object.entries(config[name]).map(
      ([key, value]) => `${key} ${showPath(Array.isArray(value) ? formatList(value) : String(value))}`,
    );
    log.info({ [name]: config[name] }, `${name}: ${values.join(", ")}`);
  }
}
