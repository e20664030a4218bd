import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { Logger } from "pino";
import { NextvladError } from "../base/errors.js";
import { showPath } from "../base/shown-value.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import { describeKeys } from "../config/keys.js";
import { buildConfig, loadConfig, type Override, type Overrides, originsOf } from "../config/load.js";
import type { Config, SectionName } from "../config/schema.js";
import { readYamlText } from "../config/yaml.js";
import type { ExportFlags, InferFlags } from "./flags.js";

/**
 * Returns the config of a command: from `--config`, else from the weights, else with the sizes inferred from the weights' shapes; flags override it.
 * Throws BAD_USAGE if none of these is available, BAD_WEIGHTS if the sizes cannot be inferred, and what `loadConfig` throws.
 */
export async function findConfig(
  flags: Pick<ExportFlags, "config" | "set">,
  overrides: readonly Override[],
  source: WeightSource | null,
): Promise<Config> {
  const over: Overrides = { flags: overrides, settings: flags.set ?? [] };
  if (flags.config !== undefined) return loadConfig(flags.config, over);
  const remedy = "pass one, such as --config configs/nextvlad.yaml";
  if (source === null) throw new NextvladError("BAD_USAGE", "a config is required", { key: "--config", remedy });
  const { snapshot, embeddedConfig, path } = source;
  if (embeddedConfig !== undefined) return buildConfig(readYamlText(embeddedConfig, path), path, over);
  if (snapshot === null) {
    const { inferModel } = await import("../checkpoints/model-arrays.js");
    return buildConfig({ MODEL: inferModel(source) }, path, over);
  }
  const { readSnapshotConfig } = await import("../checkpoints/snapshot.js");
  const value = await readSnapshotConfig(snapshot);
  if (value !== null) return buildConfig(value, join(snapshot, "config.yaml"), over);
  throw new NextvladError("BAD_USAGE", "the weights contain no config, so one is required", { file: snapshot, key: "--config", remedy });
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

function formatValue(value: unknown): string {
  return Array.isArray(value) ? formatList(value) : String(value);
}

/** Logs the sections that a command reads, one per line; with --verbose, also where the values that are not defaults come from. */
export function logConfig(log: Logger, config: Config, names: readonly SectionName[]): void {
  for (const name of names) {
    const values = Object.entries(config[name]).map(([key, value]) => `${key} ${showPath(formatValue(value))}`);
    log.info({ [name]: config[name] }, `${name}: ${values.join(", ")}`);
  }
  const origins = originsOf(config);
  for (const { section, name, default: fallback } of describeKeys().filter(({ section }) => names.includes(section))) {
    const value = (config[section] as Readonly<Record<string, unknown>>)[name];
    const origin = origins.get(`${section}.${name}`);
    if (origin === undefined || isDeepStrictEqual(value, fallback)) continue;
    log.debug(`${section}.${name} = ${showPath(formatValue(value))} (default ${showPath(formatValue(fallback))}): from ${origin}`);
  }
}

/** The number of videos per batch norm that a warning recommends. */
const MIN_NORMED_VIDEOS = 16;

/**
 * Logs, for users of PaddleVideo, which keys of this config have no effect, and warns about settings with which training with this number of processes is likely
 * to fail.
 */
export function logTrainingNotes(log: Logger, { MODEL, TRAIN }: Config, processes: number): void {
  if (MODEL.name === "NETVLAD") log.info("MODEL.groups and MODEL.expansion have no effect: they are always 1 for NETVLAD");
  if (TRAIN.gradient_clip_norm !== null) {
    log.info(
      `TRAIN.gradient_clip_norm = ${TRAIN.gradient_clip_norm} has no effect, as in PaddleVideo; use TRAIN.gradient_clip to clip gradients`,
    );
  }
  const shares = TRAIN.sync_bn ? 1 : processes;
  if (Math.floor(TRAIN.batch_size / shares) === 1) {
    const divided = shares === 1 ? "" : ` for ${shares} processes with TRAIN.sync_bn = false`;
    log.warn(
      `TRAIN.batch_size = ${TRAIN.batch_size}${divided}: batch normalization needs more than one video for its statistics, so validation will not match training; use at least ${MIN_NORMED_VIDEOS * shares} (the published recipe uses 160)`,
    );
  }
}
