import { join } from "node:path";
import type { WeightSource } from "../checkpoints/weight-source.js";
import { describeFileList } from "../data/file-list.js";
import { startReaderThreads } from "../passes/reader-threads.js";
import { type ResultFormat, type ResultKind, resultStem } from "../results/result-formats.js";
import { findConfig, logConfig } from "./configuration.js";
import { configOverrides, type EvalFlags } from "./flags.js";
import { isShown, printResult, terminalColumns } from "./output.js";
import { removeDirectoriesOnError } from "./output-directory.js";
import { followPass, formatStop, passOptions, stateOf } from "./pass-options.js";
import { preflightReading } from "./preflight.js";
import { findCluster, launch } from "./ranks.js";
import { assertReportReplaceable, printWithReport, reportIn } from "./report.js";
import { assertResultsReplaceable, formatFiles, resultTarget } from "./result-files.js";
import { runIn } from "./run.js";
import { assertNoFullRanking } from "./segments.js";
import { describeWeights, openNamedWeights } from "./weights.js";

/** `nextvlad eval`: prints PaddleVideo's metrics line, or a table on a terminal, and the paths of the results; returns the exit code. */
export async function runEval(flags: EvalFlags): Promise<number> {
  const formats = flags.predictions === true ? (["pickle"] as const) : (flags.predictions ?? []);
  const weights = await openNamedWeights(flags.weights);
  return removeDirectoriesOnError(flags.saveDir, () => evaluateWeights(weights, formats, flags)).finally(() => weights.close());
}

async function evaluateWeights(weights: WeightSource, formats: readonly ResultFormat[], flags: EvalFlags): Promise<number> {
  const config = await findConfig(flags, configOverrides("eval", flags), weights);
  assertNoFullRanking(config, flags);
  const cluster = findCluster(flags);
  const devices = flags.devices ?? 1;
  if (cluster === null && devices > 1) return launch({ devices, useGpu: config.TEST.use_gpu, threads: flags.threads });
  const stem = (kind: ResultKind): string => join(flags.saveDir, resultStem(config.MODEL.name, kind));
  const path = stem("eval_predictions");
  const planned = { predictions: path, formats, metrics: `${stem("eval_result")}.json`, diagnostics: `${stem("eval_diagnostics")}.json` };
  await assertResultsReplaceable(planned, flags.overwrite);
  if (flags.report) await assertReportReplaceable(reportIn(flags.saveDir), flags.overwrite);
  startReaderThreads(config, "TEST", flags.threads);
  const preflight = await preflightReading(config, "TEST", flags);
  if (cluster !== null && cluster.rank > 0) return followPass("TEST", config, { weights, preflight, cluster, flags });
  const { outcome, exitCode } = await runIn(
    flags.saveDir,
    { name: "eval.log.jsonl", quiet: flags.quiet, verbose: flags.verbose },
    async (run) => {
      const { telemetry } = run;
      for (const line of describeWeights(weights, flags, config)) telemetry.log.info(line);
      logConfig(telemetry.log, config, ["MODEL", "TEST"]);
      const target = await resultTarget(path, formats, flags.labels, config.MODEL.num_classes, telemetry.log);
      const [shards = []] = preflight.requireReady(telemetry.log);
      const { evaluate } = await import("../inference/evaluate.js");
      const evaluated = await evaluate(config, {
        weights,
        filelist: describeFileList(config.TEST.filelist),
        shards,
        limitVideos: flags.limitVideos ?? null,
        batchSize: config.TEST.batch_size,
        saveDir: flags.saveDir,
        target: formats.length === 0 ? null : target,
        names: target.names,
        fullRanking: flags.fullRanking ?? false,
        ...(await passOptions("eval", flags, cluster, run)),
      });
      if (evaluated.metrics !== null) {
        const { summarize } = await import("../evaluation/metrics.js");
        const values = summarize(evaluated.metrics);
        telemetry.log.info(values, `[EVAL] ${values.videos} videos, GAP = ${values.gap.toFixed(4)}, MAP = ${values.map.toFixed(4)}`);
      }
      return { ...evaluated, names: target.names };
    },
  );
  const { metrics, metricsFile, diagnosticsFile, resultFiles } = outcome;
  const state = stateOf(outcome);
  const { formatFullRanking, formatSegmentRanking, summarize } = await import("../evaluation/metrics.js");
  if (metrics === null) {
    const value = { ...state, metrics, metrics_file: null, diagnostics_file: null, files: resultFiles };
    await printResult(flags, { ...value, report: null }, formatStop("[EVAL] eval", outcome.videos, outcome.partialDirectory));
    return exitCode;
  }
  const lines: string[] = [];
  if (isShown(flags)) {
    const { formatSummary } = await import("../evaluation/summary.js");
    const { names, positives } = outcome;
    lines.push(...formatSummary({ metrics, positives, nameOf: names === null ? null : (c) => names.nameOf(c) }, terminalColumns()));
  } else {
    const { formatEvalLine } = await import("../telemetry/paddle-lines.js");
    const { hit_at_one: hitAtOne, perr, loss, gap, full_ranking: full, segments } = metrics;
    lines.push(formatEvalLine({ hitAtOne, perr, loss, gap }));
    if (segments !== undefined) lines.push(`segments: ${formatSegmentRanking(segments)}`);
    if (full !== undefined) lines.push(`full ranking: ${formatFullRanking(full)}, over ${full.classes} classes with positives`);
  }
  lines.push(`results, with MAP and the average precision of each class: ${metricsFile}`, ...formatFiles("predictions", resultFiles));
  const value = { ...state, metrics: summarize(metrics), metrics_file: metricsFile, diagnostics_file: diagnosticsFile, files: resultFiles };
  await printWithReport(flags, value, lines);
  return exitCode;
}
