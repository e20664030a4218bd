import { basename, join } from "node:path";
import type { Logger } from "pino";
import { NextvladError } from "../base/errors.js";
import { writeFileAtomic } from "../base/files.js";
import { buildConfig, loadConfig } from "../config/load.js";
import { MODEL_NAMES } from "../config/value-types.js";
import { describeFileList, type FileList } from "../data/file-list.js";
import type { EnsembleOutcome } from "../inference/ensemble.js";
import type { Truth } from "../inference/ground-truth.js";
import { type ResultKind, resultStem } from "../results/result-formats.js";
import type { EnsembleFlags } from "./flags.js";
import { printResult } from "./output.js";
import { removeDirectoriesOnError } from "./output-directory.js";
import { preflightEnsemble } from "./preflight.js";
import { assertResultsReplaceable, checkLabels, formatFiles, resultTarget } from "./result-files.js";
import { runIn } from "./run.js";

/** `nextvlad ensemble`: prints the paths of the averages and, with labeled shards, their metrics; returns the exit code. */
export async function runEnsemble(given: readonly string[], flags: EnsembleFlags): Promise<number> {
  const { filelist } = flags;
  const results = filelist === undefined ? given : given.filter((path) => !SHARD.test(path));
  const [first, ...others] = results;
  if (first === undefined) throw new NextvladError("BAD_USAGE", "no result files", { remedy: "pass the files to average" });
  const files = [first, ...others] as const;
  const weights = flags.weights ?? files.map(() => 1);
  checkLabels(flags.labels, flags.format);
  checkWeights(weights, files);
  const stem = stemOf(flags.saveDir, files);
  const planned = {
    predictions: stem("ensemble_result"),
    formats: flags.format,
    metrics: filelist === undefined ? null : `${stem("ensemble_metrics")}.json`,
    diagnostics: null,
  };
  await assertResultsReplaceable(planned, flags.overwrite, files);
  return removeDirectoriesOnError(flags.saveDir, () =>
    averageFiles(files, weights, filelist === undefined ? flags : { ...flags, filelist: withShards(filelist, given) }),
  );
}

async function averageFiles(files: readonly [string, ...string[]], weights: readonly number[], flags: EnsembleFlags): Promise<number> {
  const { filelist } = flags;
  const stem = stemOf(flags.saveDir, files);
  const truth = await findTruth(flags);
  const preflight = truth === null || filelist === undefined ? null : await preflightEnsemble(truth.config, filelist, flags.saveDir);
  const { outcome, exitCode } = await runIn(
    flags.saveDir,
    { name: "ensemble.log.jsonl", quiet: flags.quiet, verbose: flags.verbose },
    async ({ telemetry, signal }) => {
      const inputs = files.map((file, i) => `${file} (weight ${weights[i]})`).join(", ");
      const labels = truth === null ? "" : `, measured on ${truth.filelist}`;
      telemetry.log.info({ files, weights }, `averaging ${inputs}${labels}; --infer-topk ${flags.inferTopk}`);
      const path = stem("ensemble_result");
      const target = await resultTarget(path, flags.format, flags.labels, truth?.numClasses ?? null, telemetry.log);
      const { SkippedRecordReport } = await import("../passes/skipped-records.js");
      const { ensemble } = await import("../inference/ensemble.js");
      const skipped = new SkippedRecordReport(flags.saveDir, "ensemble", telemetry.log);
      const [shards = []] = preflight?.requireReady(telemetry.log) ?? [];
      const measuredOn = truth === null ? null : { ...truth, shards };
      const outcome = await ensemble({ files, weights, topk: flags.inferTopk, target, truth: measuredOn, signal, telemetry, skipped });
      logOutcome(outcome, telemetry.log);
      return outcome;
    },
  );
  const { metrics } = outcome;
  const metricsFile = metrics === null ? null : `${stem("ensemble_metrics")}.json`;
  if (metrics !== null && metricsFile !== null) {
    const { encodeMetrics } = await import("../evaluation/metrics.js");
    await writeFileAtomic(metricsFile, encodeMetrics(metrics));
  }
  await printResult(flags, toJson(outcome, metricsFile), formatOutcome(outcome, metricsFile));
  return exitCode;
}

function toJson({ stopped, videos, metrics, resultFiles }: EnsembleOutcome, metricsFile: string | null) {
  const { aps: _, ...values } = metrics ?? { aps: [] };
  return { stopped, videos, metrics: metrics === null ? null : values, metrics_file: metricsFile, files: resultFiles };
}

function formatOutcome({ stopped, videos, metrics, resultFiles }: EnsembleOutcome, metricsFile: string | null): readonly string[] {
  if (stopped) return [`[ENSEMBLE] ensemble stopped after ${videos} videos: no result`];
  const lines = [`[ENSEMBLE] ensemble finished. \tvideos: ${videos}`];
  if (metrics !== null) {
    const [hit, perr, gap, map] = [metrics.hit_at_one, metrics.perr, metrics.gap, metrics.map].map((value) => value.toFixed(4));
    lines.push(`avg_hit_at_one: ${hit},\tavg_perr: ${perr},\tgap: ${gap},\tmap: ${map}`);
    lines.push(`metrics, with the average precision of each class: ${metricsFile}`);
  }
  return [...lines, ...formatFiles("results", resultFiles)];
}

/** Returns the paths of results without extension, named after the model of the files' names, or after the default model if they have several or others. */
function stemOf(saveDir: string, files: readonly string[]): (kind: ResultKind) => string {
  const model = MODEL_NAMES.find((name) => files.every((file) => basename(file).startsWith(`${name}_`))) ?? MODEL_NAMES[0];
  return (kind) => join(saveDir, resultStem(model, kind));
}

const SHARD = /\.tfrecords?(\.gz)?$/i;

/**
 * Adds the shards among the positional arguments to `--filelist`: a shell expands an unquoted `--filelist validate*.tfrecord`, and only the first match becomes
 * the flag's value.
 */
function withShards(filelist: FileList, given: readonly string[]): FileList {
  const shards = given.filter((path) => SHARD.test(path));
  return shards.length === 0 ? filelist : [filelist, ...shards].flat();
}

/** Logs the metrics and the result files as structured fields; stdout has them as text. */
function logOutcome({ stopped, videos, metrics, resultFiles }: EnsembleOutcome, log: Logger): void {
  const { aps: _, ...values } = metrics ?? { aps: [] };
  const end = stopped ? "stopped: no result" : `written: ${resultFiles.join(", ")}`;
  log.info({ videos, ...values, files: resultFiles }, `[ENSEMBLE] averaged ${videos} videos, ${end}`);
}

function checkWeights(weights: readonly number[], files: readonly string[]): void {
  if (weights.length === files.length) return;
  throw new NextvladError("BAD_USAGE", "the number of weights differs from the number of files", {
    key: "--weights",
    expected: `${files.length} weights`,
    found: weights.length,
    remedy: "pass one weight per file, in the same order, or omit --weights for equal weights",
  });
}

/**
 * Returns the labeled shards and the config to read them with, that of `--config` or YouTube-8M's; null without `--filelist`.
 * Throws BAD_USAGE for `--config` or `--set` without `--filelist`.
 */
async function findTruth({ filelist, config: file, set = [] }: EnsembleFlags): Promise<Omit<Truth, "shards"> | null> {
  if (filelist === undefined) {
    if (file === undefined && set.length === 0) return null;
    throw new NextvladError("BAD_USAGE", "the flag requires --filelist", {
      key: file !== undefined ? "--config" : "--set",
      remedy: "pass labeled shards with --filelist, or omit the flag",
    });
  }
  const overrides = { settings: set };
  const config = file === undefined ? buildConfig({ MODEL: {} }, "the defaults", overrides) : await loadConfig(file, overrides);
  if (config.MODEL.segments) {
    const remedy = "evaluate the models of segments one by one with nextvlad eval";
    throw new NextvladError("BAD_CONFIG", "ensemble computes no metrics of segments", { key: "MODEL.segments", expected: "False", remedy });
  }
  const isNamed = file !== undefined || set.some((setting) => setting.trim().startsWith("MODEL.num_classes"));
  return { filelist: describeFileList(filelist), config, numClasses: isNamed ? config.MODEL.num_classes : null };
}
