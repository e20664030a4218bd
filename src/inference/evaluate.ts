import { join } from "node:path";
import { writeFileAtomic } from "../base/files.js";
import type { Interval } from "../base/interval.js";
import { countReaders, type Threads } from "../base/threads.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import type { Config } from "../config/schema.js";
import type { Shard } from "../data/shard.js";
import type { Cluster } from "../distributed/cluster.js";
import { encodeDiagnostics } from "../evaluation/diagnostics.js";
import { checkLabeled, encodeMetrics, type Metrics, MetricsAccumulator } from "../evaluation/metrics.js";
import { MistakeList } from "../evaluation/mistakes.js";
import { ScoreRows } from "../evaluation/score-rows.js";
import { predictWith } from "../passes/compute-batches.js";
import { loadNetwork } from "../passes/loaded-network.js";
import { measure } from "../passes/measure.js";
import { connectPass } from "../passes/ranks.js";
import { forwardStreamEvents, noVideosError, openReading } from "../passes/reading.js";
import {
  type BatchWriter,
  describeSettings,
  type ResumableOutcome,
  type ResumeOptions,
  writeResumably,
} from "../passes/resumable-results.js";
import type { SkippedRecordReport } from "../passes/skipped-records.js";
import { rankStoredScores } from "../passes/stored-scores.js";
import type { LabelNames } from "../results/label-names.js";
import { resultStem } from "../results/result-formats.js";
import type { ResultTarget } from "../results/result-writer.js";
import type { Telemetry } from "../telemetry/telemetry.js";

export interface EvaluateOptions {
  /** `loadNetwork` closes them. */
  readonly weights: WeightSource;
  /** Name of the shard list, for errors. */
  readonly filelist: string;
  readonly shards: readonly Shard[];
  /** Maximum number of videos to read, the first ones; null for all. */
  readonly limitVideos: number | null;
  readonly batchSize: number;
  readonly threads: Threads;
  /** The cluster of which this process is rank 0; null for a process on its own. */
  readonly cluster: Cluster | null;
  /** This program's version. */
  readonly version: string;
  readonly saveDir: string;
  /** Where to write the predictions; null to write none. */
  readonly target: ResultTarget | null;
  /** Whether to compute the metrics over the full ranking too. */
  readonly fullRanking: boolean;
  /** For the diagnostics; null without names. */
  readonly names: LabelNames | null;
  readonly logInterval: Interval;
  readonly signal: AbortSignal;
  readonly resumable: ResumeOptions;
  readonly telemetry: Telemetry;
  readonly skipped: SkippedRecordReport;
}

export interface EvaluateOutcome extends ResumableOutcome {
  /** Null if the run stopped early. */
  readonly metrics: Metrics | null;
  /** `[classes]`: the number of videos with each class as label. */
  readonly positives: Float64Array;
  readonly metricsFile: string;
  readonly diagnosticsFile: string;
}

/**
 * Runs `nextvlad eval`: evaluates weights on labeled videos. Writes the metrics to {MODEL.name}_eval_result.json, what a report shows of them to
 * {MODEL.name}_eval_diagnostics.json and, if requested, the predictions. Throws what loading, reading and writing throw.
 */
export async function evaluate(config: Config, options: EvaluateOptions): Promise<EvaluateOutcome> {
  const { MODEL, TEST } = config;
  const { telemetry, batchSize, threads, cluster, version, filelist, shards, limitVideos, target, fullRanking, saveDir, skipped } = options;
  const load = { config, section: "TEST", batchSize, threads, cluster, weights: options.weights } as const;
  const { network, checksum, computedBy, dispose } = await loadNetwork(load, telemetry.log);
  const world = await connectPass(cluster, {
    config,
    section: "TEST",
    shards,
    limitVideos,
    weights: checksum,
    rounding: computedBy,
    version,
  });
  const accumulator = new MetricsAccumulator(
    MODEL.num_classes,
    MODEL.topk,
    fullRanking ? new ScoreRows(MODEL.num_classes) : null,
    MODEL.segments,
  );
  const mistakes = new MistakeList(MODEL.num_classes);
  const stem = join(saveDir, resultStem(MODEL.name, "eval_result"));
  const metricsFile = `${stem}.json`;
  const diagnosticsFile = `${join(saveDir, resultStem(MODEL.name, "eval_diagnostics"))}.json`;
  const settings = describeSettings(config, "TEST", { batchSize, shards, limitVideos, weights: checksum, target });
  const resumable = {
    ...options.resumable,
    stem,
    // Without the flag, as in partial results of versions that did not have it.
    settings: fullRanking ? { ...settings, "--full-ranking": "set" } : settings,
    shards,
    world,
    batchSize,
    computedBy,
    target,
    metrics: accumulator,
    mistakes,
    log: telemetry.log,
  };
  const measureRest = async (writer: BatchWriter) => {
    const { done } = writer;
    await skipped.start(done.batches > 0);
    const { on_corrupt: onCorrupt, num_readers } = TEST;
    const readers = countReaders(num_readers, threads);
    const from = { shards, limitVideos: limitVideos ?? undefined, skipBatches: done.batches };
    const read = { model: MODEL, labels: "required", ...from, batchSize, readers, onCorrupt, world } as const;
    const computation = predictWith(network, { world, batchSize, numClasses: MODEL.num_classes, withLoss: true });
    const pass = { title: "eval", logInterval: options.logInterval, signal: options.signal, telemetry, skipped, done };
    const outputs = { predictions: target === null ? null : writer, batches: writer, mistakes };
    const { stopped } = await measure(computation, openReading(read, forwardStreamEvents(skipped, telemetry)), accumulator, pass, outputs);
    if (!stopped && writer.done.videos === 0) throw noVideosError(filelist, MODEL.segments ? "rated segments" : "videos");
    return { stopped };
  };
  let metrics = null as Metrics | null;
  const writeMetrics = async (scoresFile: string) => {
    // Checked here, because a resumed run whose batches are all done skips `measureRest`.
    checkLabeled(accumulator, filelist, telemetry.log);
    // Called only once, because it sorts the predictions of all videos.
    const analysis = accumulator.analyze();
    const top = analysis.metrics;
    metrics = fullRanking ? { ...top, full_ranking: await rankStoredScores(scoresFile, accumulator.sums.positives) } : top;
    const { names } = options;
    const sources = {
      ...analysis,
      metrics,
      positives: accumulator.sums.positives,
      nameOf: names === null ? null : (c: number) => names.nameOf(c),
      mistakes,
    };
    await writeFileAtomic(diagnosticsFile, encodeDiagnostics(sources));
    await writeFileAtomic(metricsFile, encodeMetrics(metrics));
  };
  const outcome = await writeResumably(resumable, measureRest, writeMetrics);
  dispose();
  return { ...outcome, metrics, positives: accumulator.sums.positives, metricsFile, diagnosticsFile };
}
