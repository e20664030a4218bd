import { setImmediate } from "node:timers/promises";
import { NextvladError } from "../base/errors.js";
import type { Metrics } from "../evaluation/metrics.js";
import type { Top } from "../evaluation/top-k.js";
import type { SkippedRecordReport } from "../passes/skipped-records.js";
import { type Prediction, readResults } from "../results/result-codecs.js";
import { type ResultTarget, type ResultWriter, writeResults } from "../results/result-writer.js";
import type { Telemetry } from "../telemetry/telemetry.js";
import { alignVideos, type Source } from "./alignment.js";
import { GroundTruth, type Truth } from "./ground-truth.js";

export interface EnsembleOptions {
  /** Result files. */
  readonly files: readonly [string, ...string[]];
  /** One for each file. */
  readonly weights: readonly number[];
  /** Maximum number of classes per video. */
  readonly topk: number;
  readonly target: ResultTarget;
  /** Labeled shards to measure the averages on; null: no metrics. */
  readonly truth: Truth | null;
  readonly signal: AbortSignal;
  readonly telemetry: Telemetry;
  /** Reports corrupt data in the labeled shards. */
  readonly skipped: SkippedRecordReport;
}

export interface EnsembleOutcome {
  readonly stopped: boolean;
  readonly videos: number;
  /** Empty if the work stopped early. */
  readonly resultFiles: readonly string[];
  /** Null without labeled shards, or if the work stopped early. */
  readonly metrics: Omit<Metrics, "loss"> | null;
}

/** Videos between yields to the event loop, which handles signals. */
const VIDEOS_PER_TURN = 256;
const VIDEOS_PER_LOG_LINE = 100_000;

/**
 * Runs `nextvlad ensemble`: writes the weighted average of several result files, in the video order of the first one, and computes its metrics. Throws what
 * reading and writing throw, BAD_RESULTS if the files, or the labeled shards, are not of the same videos or classes, and TOO_FEW_VIDEOS if there are no videos.
 */
export async function ensemble(options: EnsembleOptions): Promise<EnsembleOutcome> {
  const { target, truth, skipped, telemetry } = options;
  await skipped.start(false);
  const groundTruth = truth === null ? null : GroundTruth.open(truth, skipped, telemetry);
  try {
    let metrics: EnsembleOutcome["metrics"] = null;
    const outcome = await writeResults(target, async (writer) => {
      const averaged = await average(options, groundTruth, writer);
      // Computed before the results are moved into place, because this may throw.
      if (!averaged.stopped) metrics = groundTruth?.metrics() ?? null;
      return averaged;
    });
    return { ...outcome, metrics };
  } finally {
    await groundTruth?.close();
    await skipped.endPass("ensemble");
  }
}

async function average(
  { files: [first, ...others], weights, topk, signal, telemetry }: EnsembleOptions,
  groundTruth: GroundTruth | null,
  writer: ResultWriter,
): Promise<{ readonly stopped: boolean; readonly videos: number }> {
  const averager = new Averager(weights);
  const sources: [Source, ...Source[]] = [sourceOf(first), ...others.map(sourceOf)];
  if (groundTruth !== null) sources.push(groundTruth.source);
  let videos = 0;
  for await (const { id, predictions } of alignVideos(sources)) {
    if (signal.aborted) return { stopped: true, videos };
    const results = predictions.slice(0, weights.length);
    const top = averager.average(results);
    groundTruth?.add(id, top, results, predictions.at(-1)?.classes ?? new Int32Array());
    await writer.write({ id, scores: top.scores.subarray(0, topk), classes: top.classes.subarray(0, topk) });
    videos++;
    if (videos % VIDEOS_PER_TURN === 0) await setImmediate();
    if (videos % VIDEOS_PER_LOG_LINE === 0) telemetry.log.info({ videos }, `[ENSEMBLE] averaged ${videos} videos`);
  }
  if (videos === 0) throw new NextvladError("TOO_FEW_VIDEOS", "the results contain no videos", { file: first });
  return { stopped: false, videos };
}

function sourceOf(file: string): Source {
  return { name: file, predictions: readResults(file) };
}

/** Minimum sum of weights at which products of weights and float32 scores have full float64 precision. */
const MIN_TOTAL = 2 ** -800;

/** Averages predictions for a video over all classes that any of them contains; a class that is missing from a prediction counts as 0 in it. */
export class Averager {
  readonly #weights: readonly number[];
  readonly #total: number;
  readonly #sums = new Map<number, number>();

  /**
   * `weights`: one finite weight per prediction, at least 0, and not all 0. They need not add up to 1: each counts by its share of the sum, even if the sum
   * overflows float64 or the weights are so small that products with them lose digits.
   */
  constructor(weights: readonly number[]) {
    const total = sumOf(weights);
    const scale = total >= MIN_TOTAL && Number.isFinite(total) ? 1 : Math.max(...weights);
    this.#weights = weights.map((weight) => weight / scale);
    this.#total = sumOf(this.#weights);
  }

  /** Returns the averages, computed in float64 and rounded to float32, in descending order; equal ones by class, lower first. */
  average(predictions: readonly Pick<Prediction, "scores" | "classes">[]): Top {
    const sums = this.#sums;
    sums.clear();
    for (const [i, { scores, classes }] of predictions.entries()) {
      const weight = this.#weights[i] as number;
      for (let rank = 0; rank < classes.length; rank++) {
        const c = classes[rank] as number;
        sums.set(c, (sums.get(c) ?? 0) + weight * (scores[rank] as number));
      }
    }
    for (const [c, sum] of sums) sums.set(c, Math.fround(sum / this.#total));
    const classes = Int32Array.from(sums.keys()).sort((a, b) => (sums.get(b) as number) - (sums.get(a) as number) || a - b);
    return { classes, scores: Float32Array.from(classes, (c) => sums.get(c) as number) };
  }
}

function sumOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}
