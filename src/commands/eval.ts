import { join } from "node:path";
import type { WeightSource } from "../checkpoints/weight-source.js";
import { describeFileList } from "../data/file-list.js";
import { type ResultFormat, type ResultKind, resultStem } from "../results/result-formats.js";
import { findConfig, logConfig } from "./configuration.js";
import { configOverrides, type EvalFlags } from "./flags.js";
import { undoFolders } from "./folder.js";
import { logInterval, resumeOptions, tellStop } from "./go-on.js";
import { printLines } from "./output.js";
import { preflightReading } from "./preflight.js";
import { checkLabels, refuseForeignResults, resultTarget, tellFiles } from "./result-files.js";
import { runIn } from "./run.js";
import { describeWeights, openNamedWeights } from "./weights.js";

/** `nextvlad eval`: prints PaddleVideo's metrics line and the paths of the results; returns the exit code. */
export async function runEval(flags: EvalFlags): Promise<number> {
  const formats = flags.predictions === true ? (["pickle"] as const) : (flags.predictions ?? []);
  checkLabels(flags.labels, formats);
  const weights = await openNamedWeights(flags.weights);
  return undoFolders(flags.saveDir, () => evaluateWeights(weights, formats, flags)).finally(() => weights.close());
}

async function evaluateWeights(weights: WeightSource, formats: readonly ResultFormat[], flags: EvalFlags): Promise<number> {
  const config = await findConfig(flags, configOverrides("eval", flags), weights);
  const stem = (kind: ResultKind): string => join(flags.saveDir, resultStem(config.MODEL.name, kind));
  const path = stem("eval_predictions");
  await refuseForeignResults({ predictions: path, formats, metrics: `${stem("eval_result")}.json` }, flags.overwrite);
  const preflight = await preflightReading(config, "TEST", flags);
  const { outcome, exitCode } = await runIn(flags.saveDir, "eval.log.jsonl", async (run) => {
    const { telemetry, signal } = run;
    for (const line of describeWeights(weights, flags, config)) telemetry.log.info(line);
    logConfig(telemetry.log, config, ["MODEL", "TEST"]);
    const predictions =
      formats.length === 0 ? null : await resultTarget(path, formats, flags.labels, config.MODEL.num_classes, telemetry.log);
    const [shards = []] = preflight.requireReady(telemetry.log);
    const { DamageReport } = await import("../evaluation/damage-report.js");
    const { evaluate } = await import("../evaluation/evaluate.js");
    return evaluate(config, {
      weights,
      filelist: describeFileList(config.TEST.filelist),
      shards,
      batchSize: config.TEST.batch_size,
      saveDir: flags.saveDir,
      predictions,
      logInterval: logInterval(flags),
      signal,
      resumable: resumeOptions(flags, run),
      telemetry,
      damage: new DamageReport(flags.saveDir, "eval", telemetry.log),
    });
  });
  if (outcome.metrics === null) {
    await printLines(...tellStop("[EVAL] eval", outcome.videos, outcome.keptIn));
    return exitCode;
  }
  const { formatEvalLine } = await import("../telemetry/paddle-lines.js");
  const { hit_at_one: hitAtOne, perr, loss, gap } = outcome.metrics;
  await printLines(formatEvalLine({ hitAtOne, perr, loss, gap }));
  await printLines(`results, with MAP and the average precision of each class: ${outcome.resultFile}`);
  await printLines(...tellFiles("predictions", outcome.predictionFiles));
  return exitCode;
}
