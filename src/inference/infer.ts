import { availableMemory } from "../base/resource-limits.js";
import { countReaders } from "../base/threads.js";
import type { Config } from "../config/schema.js";
import { TopSelector } from "../evaluation/top-k.js";
import { bytesPerFrame } from "../model/memory.js";
import { type Computation, computeBatches, predictWith } from "../passes/compute-batches.js";
import { loadNetwork } from "../passes/loaded-network.js";
import { connectPass } from "../passes/ranks.js";
import { forwardStreamEvents, noVideosError, openReading, watchBatches } from "../passes/reading.js";
import {
  type BatchWriter,
  describeSettings,
  type ResumableOutcome,
  readPartialSettings,
  writeResumably,
} from "../passes/resumable-results.js";
import type { ResultTarget } from "../results/result-writer.js";
import type { EvaluateOptions } from "./evaluate.js";

export interface InferOptions extends Omit<EvaluateOptions, "batchSize" | "saveDir" | "target" | "fullRanking" | "names"> {
  /** Null for the batch size of the resumed run or, in a new run, that of `chooseBatchSize`. */
  readonly batchSize: number | null;
  /** Classes per video, at most the number of classes. */
  readonly topk: number;
  /** Where to write the results. */
  readonly target: ResultTarget;
}

/**
 * Runs `nextvlad infer`: writes the most probable classes of every video to the result files, batch by batch, in the order of the shards. Throws what loading,
 * reading and writing throw.
 */
export async function infer(config: Config, options: InferOptions): Promise<ResumableOutcome> {
  const { target, threads, shards, limitVideos, cluster, version, telemetry } = options;
  const batchSize = options.batchSize ?? (await defaultBatchSize(config, options));
  const load = { config, section: "INFER", batchSize, threads, cluster, weights: options.weights } as const;
  const { network, checksum, computedBy, dispose } = await loadNetwork(load, telemetry.log);
  const world = await connectPass(cluster, {
    config,
    section: "INFER",
    shards,
    limitVideos,
    weights: checksum,
    rounding: computedBy,
    version,
  });
  const settings = describeSettings(config, "INFER", { batchSize, shards, limitVideos, weights: checksum, target });
  const resumable = {
    ...options.resumable,
    stem: target.path,
    settings: { ...settings, "--infer-topk": String(options.topk) },
    shards,
    world,
    batchSize,
    computedBy,
    target,
    metrics: null,
    mistakes: null,
    log: telemetry.log,
  };
  const computation = predictWith(network, { world, batchSize, numClasses: config.MODEL.num_classes, withLoss: false });
  const outcome = await writeResumably(resumable, (writer) => predict(computation, config, options, writer));
  dispose();
  return outcome;
}

/** Writes the most probable classes of each video; ends early when the signal is aborted. */
async function predict(
  computation: Computation,
  { MODEL, INFER }: Config,
  { topk, threads, filelist, shards, limitVideos, ...pass }: InferOptions,
  writer: BatchWriter,
): Promise<{ readonly stopped: boolean }> {
  const { done } = writer;
  const { skipped, telemetry } = pass;
  await skipped.start(done.batches > 0);
  const { on_corrupt: onCorrupt, num_readers } = INFER;
  const readers = countReaders(num_readers, threads);
  const { world, batchSize } = computation;
  const from = { shards, limitVideos: limitVideos ?? undefined, skipBatches: done.batches };
  const read = { model: MODEL, labels: "optional", ...from, batchSize, readers, onCorrupt, world } as const;
  const stream = openReading(read, forwardStreamEvents(skipped, telemetry));
  const selector = new TopSelector();
  const describe = (step: number): string => `[INFER] Processed ${step + 1} batches`;
  const batches = watchBatches(stream, { ...pass, title: "infer", done }, describe);
  for await (const { ids, probabilities, fraction } of computeBatches(batches, () => stream.fraction, computation)) {
    for (const prediction of selector.predictions(ids, probabilities, topk)) await writer.write(prediction);
    await writer.endBatch(ids.length, fraction);
  }
  if (writer.done.videos === 0 && stream.complete) throw noVideosError(filelist);
  return { stopped: !stream.complete };
}

/** Returns the batch size without --batch-size. A resumed run keeps its batch size, because the last digits of the results depend on it. */
async function defaultBatchSize({ MODEL, INFER }: Config, { target, resumable, telemetry }: InferOptions): Promise<number> {
  const saved = resumable.resume ? await readPartialSettings(target.path) : null;
  const size = Number(saved?.["INFER.batch_size"] ?? chooseBatchSize(MODEL, availableMemory().bytes));
  const ignored = size === INFER.batch_size ? "" : ` (INFER.batch_size = ${INFER.batch_size} in the config is ignored)`;
  telemetry.log.info({ batch_size: size }, `batch size ${size}${ignored}; set another one with --batch-size`);
  return size;
}

/** Maximum default batch size: that of the benchmarks in the README. */
const MAX_DEFAULT_BATCH_SIZE = 32;
/** Batches of uint8 features in memory at once: the current one and those that the reader threads have read ahead. */
const BATCHES_IN_MEMORY = 5;

/**
 * Returns the bytes that one video of `max_frames` frames takes in inference: its features in the queues, and, of the larger modality, the features as float32,
 * two copies of the cluster logits [frames, G K], and the expansion [frames, D].
 */
export function bytesPerVideo(model: Config["MODEL"]): number {
  const features = model.video_feature_size + model.audio_feature_size;
  return model.max_frames * (BATCHES_IN_MEMORY * features + bytesPerFrame(model));
}

/** Returns the batch size that uses at most half of the available memory: at most 32, at least 1. */
export function chooseBatchSize(model: Config["MODEL"], availableBytes: number): number {
  return Math.max(1, Math.min(MAX_DEFAULT_BATCH_SIZE, Math.floor(availableBytes / 2 / bytesPerVideo(model))));
}
