import { join } from "node:path";
import { NextvladError } from "../base/errors.js";
import { writeFileAtomic } from "../base/files.js";
import { requireProcessLimits } from "../base/resource-limits.js";
import { fillAllArrays } from "../checkpoints/arrays.js";
import { suggestEarlierSnapshot } from "../checkpoints/snapshot.js";
import type { WeightSource } from "../checkpoints/weight-source.js";
import type { Config } from "../config/schema.js";
import { fingerprintList, readContents, type Shard } from "../data/shard.js";
import { type BatchStream, openStream, prepareReading, type StreamEvents, type StreamOptions } from "../data/stream.js";
import { videoShape } from "../data/video.js";
import { chooseKernels } from "../kernels/choose.js";
import { sigmoid } from "../kernels/tensorflow-ops.js";
import { FrozenNetwork } from "../model/frozen.js";
import { crossEntropySum, labelMatrix } from "../model/layers.js";
import { checkMemory } from "../model/memory.js";
import { parameterTable } from "../model/network.js";
import { modelSizes } from "../model/sizes.js";
import { WeightStore } from "../model/weights.js";
import { resultStem } from "../results/result-formats.js";
import type { ResultTarget } from "../results/result-writer.js";
import { type BatchWriter, type ResumeOptions, writeResumably } from "../results/resumable-results.js";
import { formatDevice, loadTensorflow, runtime, setMatmulPrecision, slowPrecisionWarning, tidy } from "../runtime/runtime.js";
import { toFloats } from "../runtime/transfer.js";
import type { Telemetry } from "../telemetry/telemetry.js";
import type { DamageReport } from "./damage-report.js";
import { checkLabelled, encodeMetrics, type Metrics, MetricsAccumulator } from "./metrics.js";
import { TopSelector } from "./top-k.js";
import { topPredictions } from "./top-predictions.js";
import { type LogInterval, tellEvents, type Watch, watchBatches } from "./watched-batches.js";
import { describeTarget, describeWork, WeightsChecksum } from "./work.js";

export interface EvaluateOptions {
  /** Closed once they are loaded. */
  readonly weights: WeightSource;
  /** Name of the shard list, for errors. */
  readonly filelist: string;
  readonly shards: readonly Shard[];
  readonly batchSize: number;
  readonly saveDir: string;
  /** Where to write the predictions; null: nowhere. */
  readonly predictions: ResultTarget | null;
  readonly logInterval: LogInterval;
  readonly signal: AbortSignal;
  readonly resumable: ResumeOptions;
  readonly telemetry: Telemetry;
  readonly damage: DamageReport;
}

export interface EvaluationResult {
  readonly stopped: boolean;
  /** Videos done, including those of the runs that this one resumed. */
  readonly videos: number;
  /** Null if the pass stopped early. */
  readonly metrics: Metrics | null;
  /** Folder of the partial results if the pass stopped early; null if there are none. */
  readonly keptIn: string | null;
  readonly resultFile: string;
  readonly predictionFiles: readonly string[];
}

/**
 * Runs `nextvlad eval`: computes the metrics of weights on labeled videos, and writes them to {MODEL.name}_eval_result.json and, if requested, the predictions
 * that they are computed from. Throws what reading, loading and writing throw.
 */
export async function evaluate(config: Config, options: EvaluateOptions): Promise<EvaluationResult> {
  const { telemetry, batchSize, filelist, shards, predictions: target, saveDir, damage } = options;
  const network = await loadNetwork(config, options.weights, config.TEST, batchSize, telemetry);
  const { num_classes: classes, topk } = config.MODEL;
  const accumulator = new MetricsAccumulator(classes, topk);
  const stem = join(saveDir, resultStem(config.MODEL.name, "eval_result"));
  const resultFile = `${stem}.json`;
  const work = {
    ...describeWork(config, "TEST", { batchSize, shards: fingerprintList(shards), weights: network.checksum }),
    ...describeTarget("--predictions", target),
  };
  const resumable = {
    ...options.resumable,
    stem,
    work,
    shards: { list: shards, contents: await readContents(shards) },
    computedBy: network.computedBy,
    target,
    tally: accumulator,
    log: telemetry.log,
  };
  const measureRest = async (writer: BatchWriter) => {
    const { done } = writer;
    await damage.begin(done.batches > 0);
    const { on_corrupt: onCorrupt, num_readers: readers } = config.TEST;
    const manner = { onCorrupt, skipBatches: done.batches, events: tellEvents(damage, telemetry) };
    const stream = openReading(config, shards, batchSize, readers, "required", manner);
    const watch = { title: "eval", logInterval: options.logInterval, signal: options.signal, telemetry, damage, done };
    const { stopped } = await measure(network.frozen, stream, { classes, topk }, watch, accumulator, writer);
    if (stopped) return { stopped };
    if (writer.done.videos === 0) throw noVideos(filelist);
    return { stopped };
  };
  let metrics = null as Metrics | null;
  const writeMetrics = async () => {
    // Checked here, because a resumed run whose batches are all done skips `measureRest`.
    checkLabelled(accumulator, filelist, telemetry.log);
    // Called only once, because it sorts the predictions of all videos.
    metrics = accumulator.result();
    await writeFileAtomic(resultFile, encodeMetrics(metrics));
  };
  const { stopped, videos, keptIn, resultFiles } = await writeResumably(resumable, measureRest, writeMetrics);
  network.dispose();
  return { stopped, videos, metrics, keptIn, resultFile, predictionFiles: resultFiles };
}

/** Returns the TOO_FEW_VIDEOS error for shards that contain no video, or no valid one. */
export function noVideos(filelist: string): NextvladError {
  return new NextvladError("TOO_FEW_VIDEOS", "the shards hold no videos", { file: filelist, remedy: "name shards that hold some" });
}

/**
 * Loads TensorFlow and all weights, which must match the model, and closes their source. The reader threads start in parallel. The caller calls `dispose` of
 * the result.
 */
export async function loadNetwork(
  config: Config,
  weights: WeightSource,
  { use_gpu: useGpu, precision, num_readers: readers }: Pick<Config["TEST"], "use_gpu" | "precision" | "num_readers">,
  batchSize: number,
  telemetry: Telemetry,
) {
  // The reader threads and the thread that assembles batches.
  requireProcessLimits({ threads: readers + 1, tensorflow: true }, "set num_readers to 1");
  prepareReading(readers);
  const device = await loadTensorflow(useGpu);
  setMatmulPrecision(precision);
  telemetry.log.info(formatDevice(device));
  checkMemory({ model: config.MODEL, batchSize, training: false, inHostMemory: device.inHostMemory }, (message) =>
    telemetry.log.warn(message),
  );
  const warning = slowPrecisionWarning(precision, { kind: device.kind, byteInstructions: runtime().native.byteInstructions });
  if (warning !== null) telemetry.log.warn(warning);
  const sizes = modelSizes(config.MODEL);
  const store = new WeightStore(parameterTable(sizes));
  const checksum = new WeightsChecksum();
  const remedy = "use the config that these weights were trained with, or other weights";
  await fillAllArrays(weights, store.arrays(), remedy, (name, values) => checksum.add(name, values));
  await weights.close();
  const frozen = new FrozenNetwork(sizes, config.MODEL.drop_rate, store, chooseKernels(), precision);
  const dispose = (): void => {
    frozen.dispose();
    store.dispose();
  };
  await requireFiniteLogits(frozen, weights).catch((error: unknown) => {
    dispose();
    throw error;
  });
  return {
    frozen,
    checksum: String(checksum),
    computedBy: `TensorFlow ${device.tensorflowVersion} on the ${device.kind.toUpperCase()}`,
    dispose,
  };
}

/** Throws NOT_FINITE if a network with finite weights computes NaN or Inf. The source of the weights is named in the error. */
export async function requireFiniteLogits(network: FrozenNetwork, { path: file, snapshot }: WeightSource): Promise<void> {
  if (network.hasFiniteLogits()) return;
  const what = "the model computes NaN or Inf from these weights: the training that wrote them diverged";
  throw await suggestEarlierSnapshot(new NextvladError("NOT_FINITE", what, { file }), snapshot);
}

/** How to read shards: the policy for corrupt data (default: error), how many batches to skip, and callbacks for the stream's events. */
export interface ReadingManner extends Pick<StreamOptions, "onCorrupt" | "skipBatches"> {
  readonly events?: StreamEvents;
}

/** Opens shards for one sequential pass, in list order, over all videos except those of the first `skipBatches` batches. */
export function openReading(
  config: Config,
  shards: readonly Shard[],
  batchSize: number,
  readers: number,
  labels: "required" | "optional",
  { onCorrupt = "error", skipBatches = 0, events = {} }: ReadingManner = {},
): BatchStream {
  return openStream(
    {
      ...videoShape(config.MODEL, labels),
      onCorrupt,
      shards,
      order: "sequential",
      seed: 0,
      epoch: 0,
      batchSize,
      dropLast: false,
      shuffleBuffer: 1,
      readers,
      skipBatches,
    },
    events,
  );
}

/**
 * Runs all batches of a stream through the network and adds them to the accumulator; stops early, with the metrics so far, at the signal. The writer, if any,
 * receives the `topk` best classes of each video, and the end of each batch.
 */
export async function measure(
  network: FrozenNetwork,
  stream: BatchStream,
  { classes, topk }: { readonly classes: number; readonly topk: number },
  watch: Watch,
  accumulator: MetricsAccumulator,
  writer: BatchWriter | null = null,
): Promise<{ readonly stopped: boolean }> {
  const selector = new TopSelector();
  let meanLoss = Number.NaN;
  const describe = (step: number): string => `[EVAL] ${watch.title}: iter ${step} , loss = ${meanLoss.toFixed(6)}`;
  for await (const batch of watchBatches(stream, watch, describe)) {
    const { probabilities, loss } = tidy(() => {
      const logits = network.logits(batch);
      const sum = crossEntropySum(logits, labelMatrix(batch.labels, classes));
      return { probabilities: toFloats(sigmoid(logits)), loss: toFloats(sum)[0] as number };
    });
    meanLoss = loss / batch.ids.length;
    accumulator.add(probabilities, batch.labels, loss);
    if (writer === null) continue;
    if (writer.takesPredictions) {
      for (const prediction of topPredictions(batch.ids, probabilities, topk, selector)) await writer.write(prediction);
    }
    await writer.endBatch(batch.ids.length, stream.fraction);
  }
  return { stopped: !stream.complete };
}
