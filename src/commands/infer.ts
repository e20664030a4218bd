import { join } from "node:path";
import type { WeightSource } from "../checkpoints/weight-source.js";
import { describeFileList } from "../data/file-list.js";
import { startReaderThreads } from "../passes/reader-threads.js";
import type { LabelNames } from "../results/label-names.js";
import { resultStem } from "../results/result-formats.js";
import { findConfig, givenBatchSize, logConfig } from "./configuration.js";
import { configOverrides, type InferFlags } from "./flags.js";
import { isShown, printLines, printResult, terminalColumns } from "./output.js";
import { removeDirectoriesOnError } from "./output-directory.js";
import { followPass, formatStop, passOptions, stateOf } from "./pass-options.js";
import { preflightReading } from "./preflight.js";
import { findCluster, launch } from "./ranks.js";
import { assertResultsReplaceable, checkLabels, formatFiles, resultTarget } from "./result-files.js";
import { runIn } from "./run.js";
import { findSegmentClasses } from "./segments.js";
import { describeWeights, openNamedWeights } from "./weights.js";

/** `nextvlad infer`: prints the number of videos and the paths of the results; returns the exit code. */
export async function runInfer(flags: InferFlags): Promise<number> {
  checkLabels(flags.labels, flags.format);
  const weights = await openNamedWeights(flags.weights);
  return removeDirectoriesOnError(flags.saveDir, () => inferWith(weights, flags)).finally(() => weights.close());
}

async function inferWith(weights: WeightSource, flags: InferFlags): Promise<number> {
  const config = await findConfig(flags, configOverrides("infer", flags), weights);
  const cluster = findCluster(flags);
  const devices = flags.devices ?? 1;
  if (cluster === null && devices > 1) return launch({ devices, useGpu: config.INFER.use_gpu, threads: flags.threads });
  const path = join(flags.saveDir, resultStem(config.MODEL.name, "infer_result"));
  const segmentFile = config.MODEL.segments ? `${join(flags.saveDir, resultStem(config.MODEL.name, "infer_segments"))}.csv` : null;
  const classes = await findSegmentClasses(config, flags);
  const planned = { predictions: path, formats: flags.format, metrics: null, diagnostics: null, segments: segmentFile };
  await assertResultsReplaceable(planned, flags.overwrite);
  startReaderThreads(config, "INFER", flags.threads);
  const preflight = await preflightReading(config, "INFER", flags);
  if (cluster !== null && cluster.rank > 0) return followPass("INFER", config, { weights, preflight, cluster, flags });
  const { outcome, exitCode } = await runIn(
    flags.saveDir,
    { name: "infer.log.jsonl", quiet: flags.quiet, verbose: flags.verbose },
    async (run) => {
      const { telemetry } = run;
      for (const line of describeWeights(weights, flags, config)) telemetry.log.info(line);
      logConfig(telemetry.log, config, ["MODEL", "INFER"]);
      const [shards = []] = preflight.requireReady(telemetry.log);
      const { infer } = await import("../inference/infer.js");
      const target = await resultTarget(path, flags.format, flags.labels, config.MODEL.num_classes, telemetry.log);
      const inferred = await infer(config, {
        weights,
        filelist: describeFileList(config.INFER.filelist),
        shards,
        limitVideos: flags.limitVideos ?? null,
        batchSize: givenBatchSize(config, flags),
        topk: Math.min(flags.inferTopk, classes?.length ?? config.MODEL.num_classes),
        classes,
        segmentFile,
        target,
        ...(await passOptions("infer", flags, cluster, run)),
      });
      return { ...inferred, names: target.names };
    },
  );
  const { stopped, videos, partialDirectory, resultFiles } = outcome;
  if (!stopped && isShown(flags)) await showFirst(resultFiles[0] as string, outcome.names);
  const lines = stopped
    ? formatStop("[INFER] infer", videos, partialDirectory)
    : [
        `[INFER] infer finished. \t${segmentFile === null ? "videos" : "segments"}: ${videos}`,
        ...formatFiles("results", resultFiles),
        ...formatFiles("segments of each class, for Kaggle", segmentFile === null ? [] : [segmentFile]),
      ];
  await printResult(
    flags,
    { ...stateOf(outcome), files: resultFiles, ...(segmentFile === null ? {} : { segment_file: stopped ? null : segmentFile }) },
    lines,
  );
  return exitCode;
}

/** Number of videos whose predictions are shown on a terminal. */
const SHOWN_VIDEOS = 5;

/** Prints the most probable classes of the first videos in a result file. */
async function showFirst(file: string, names: LabelNames | null): Promise<void> {
  const { readResults } = await import("../results/result-codecs.js");
  const { formatPrediction } = await import("../results/preview.js");
  let shown = 0;
  for await (const prediction of readResults(file)) {
    await printLines(...formatPrediction(prediction, names, terminalColumns()));
    if (++shown === SHOWN_VIDEOS) break;
  }
}
