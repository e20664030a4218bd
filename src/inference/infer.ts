import { availableMemory } from "../base/resource-limits.js";
import { countReaders } from "../base/threads.js";
import type { Config } from "../config/schema.js";
import { clipFrames } from "../config/segments.js";
import { TopSelector } from "../evaluation/top-k.js";
import { formatChecksum } from "../formats/checksum.js";
import { crc32c } from "../formats/crc32.js";
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
import type { Prediction } from "../results/result-codecs.js";
import type { ResultTarget } from "../results/result-writer.js";
import { assertListable, writeSegmentLists } from "../results/segment-lists.js";
import type { EvaluateOptions } from "./evaluate.js";

export interface InferOptions extends Omit<EvaluateOptions, "batchSize" | "saveDir" | "target" | "fullRanking" | "names"> {
  /** Null for the batch size of the resumed run or, in a new run, that of `chooseBatchSize`. */
  readonly batchSize: number | null;
  /** Classes per video, at most the number of classes. */
  readonly topk: number;
  /** The classes that count, ascending and unique; null for all. */
  readonly classes: Int32Array | null;
  /** Where to write the results. */
  readonly target: ResultTarget;
  /** Path of Kaggle's csv of segments; null without segments. */
  readonly segmentFile: string | null;
}

/**
 * Runs `nextvlad infer`: writes the most probable classes of every video to the result files, batch by batch, in the order of the shards; of segments also the
 * most probable ones of each class. Throws what loading, reading and writing throw.
 */
export async function infer(config: Config, options: InferOptions): Promise<ResumableOutcome> {
  const { target, threads, shards, limitVideos, cluster, version, telemetry, classes, segmentFile } = options;
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
    settings: {
      ...settings,
      "--infer-topk": String(options.topk),
      ...(classes === null ? {} : { "--segment-classes": `${classes.length} classes with checksum ${checksumOf(classes)}` }),
    },
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
  const listSegments = async (_: string, resultFiles: readonly string[]): Promise<void> => {
    // A csv has 6 digits of each probability.
    const exact = resultFiles.find((file) => !file.endsWith(".csv")) ?? resultFiles[0];
    if (segmentFile === null || exact === undefined) return;
    telemetry.log.info("listing the segments of each class");
    await writeSegmentLists(exact, segmentFile);
  };
  const outcome = await writeResumably(resumable, (writer) => predict(computation, config, options, writer), listSegments);
  dispose();
  return outcome;
}

/** Writes the most probable classes of each video; ends early when the signal is aborted. */
async function predict(
  computation: Computation,
  { MODEL, INFER }: Config,
  { topk, classes, threads, filelist, shards, limitVideos, segmentFile, ...pass }: InferOptions,
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
    if (segmentFile !== null) assertListable(ids);
    const counted = classes === null ? probabilities : columnsOf(probabilities, classes, ids.length);
    for (const prediction of selector.predictions(ids, counted, topk)) await writer.write(withClasses(prediction, classes));
    await writer.endBatch(ids.length, fraction);
  }
  if (writer.done.videos === 0 && stream.complete) throw noVideosError(filelist);
  return { stopped: !stream.complete };
}

/** Returns the columns `[videos, classes]` of some classes. */
function columnsOf(probabilities: Float32Array, classes: Int32Array, videos: number): Float32Array {
  const numClasses = probabilities.length / videos;
  const columns = new Float32Array(videos * classes.length);
  for (let video = 0; video < videos; video++) {
    for (const [i, c] of classes.entries()) columns[video * classes.length + i] = probabilities[video * numClasses + c] as number;
  }
  return columns;
}

/** Replaces the indices of columns by their classes. */
function withClasses(prediction: Prediction, classes: Int32Array | null): Prediction {
  return classes === null ? prediction : { ...prediction, classes: prediction.classes.map((i) => classes[i] as number) };
}

function checksumOf({ buffer, byteOffset, byteLength }: Int32Array): string {
  return formatChecksum(crc32c(new Uint8Array(buffer, byteOffset, byteLength)));
}

/** Returns the batch size without --batch-size. A resumed run keeps its batch size, because the last digits of the results depend on it. */
async function defaultBatchSize({ MODEL, INFER }: Config, { target, resumable, telemetry }: InferOptions): Promise<number> {
  const saved = resumable.resume ? await readPartialSettings(target.path) : null;
  const size = Number(saved?.["INFER.batch_size"] ?? chooseBatchSize(MODEL, availableMemory().bytes));
  const ignored = size === INFER.batch_size ? "" : ` (INFER.batch_size = ${INFER.batch_size} in the config is ignored)`;
  telemetry.log.info({ batch_size: size }, `batch size ${size}${ignored}; set another one with --batch-size`);
  return size;
}

/** Maximum default batch size: that of the benchmarks in the README, and as many frames of segments. */
const MAX_DEFAULT_VIDEOS = 32;
const MAX_DEFAULT_SEGMENTS = 1920;
/** Batches of uint8 features in memory at once: the current one and those that the reader threads have read ahead. */
const BATCHES_IN_MEMORY = 5;

/**
 * Returns the bytes that one video of `max_frames` frames, or one segment, takes in inference: its features in the queues, and, of the larger modality, the
 * features as float32, two copies of the cluster logits [frames, G K], and the expansion [frames, D].
 */
export function bytesPerVideo(model: Config["MODEL"]): number {
  const features = model.video_feature_size + model.audio_feature_size;
  return clipFrames(model) * (BATCHES_IN_MEMORY * features + bytesPerFrame(model));
}

/** Returns the batch size that uses at most half of the available memory: at most 32 videos or 1,920 segments, at least 1. */
export function chooseBatchSize(model: Config["MODEL"], availableBytes: number): number {
  const max = model.segments ? MAX_DEFAULT_SEGMENTS : MAX_DEFAULT_VIDEOS;
  return Math.max(1, Math.min(max, Math.floor(availableBytes / 2 / bytesPerVideo(model))));
}
