import { countReaders } from "../base/threads.js";
import { bestSnapshot, checkSnapshot, copyToBest, type RunState, rewriteState } from "../checkpoints/snapshot.js";
import { isInside } from "../checkpoints/snapshot-layout.js";
import type { Config } from "../config/schema.js";
import { describeFileList } from "../data/file-list.js";
import type { World } from "../distributed/world.js";
import { checkLabeled, type Metrics, MetricsAccumulator } from "../evaluation/metrics.js";
import { ScoreRows } from "../evaluation/score-rows.js";
import type { Kernels } from "../kernels/types.js";
import { dropRates } from "../model/drop-rates.js";
import { FrozenNetwork } from "../model/frozen.js";
import { modelSizes } from "../model/sizes.js";
import type { WeightStore } from "../model/weights.js";
import { type Computation, computeOwnBatches, predictWith } from "../passes/compute-batches.js";
import { measure } from "../passes/measure.js";
import { forwardStreamEvents, noVideosError, openReading, type ReadOptions } from "../passes/reading.js";
import { TemporaryScores } from "../passes/stored-scores.js";
import { afterValidation, type Watched } from "./early-stopping.js";
import type { TrainOptions, TrainOutcome } from "./options.js";
import { announce } from "./ranks.js";
import { logValidation } from "./report.js";
import type { Training } from "./start.js";
import type { TrainingState } from "./state.js";

/** Resets the best validation if its snapshot is not in the save-dir: a run that resumes in another save-dir determines its best again. */
export async function loadBest({ options, state }: Training): Promise<void> {
  const { best } = state.run;
  if (best === null) return;
  const found = (await checkSnapshot(bestSnapshot(options.saveDir)).catch(() => null))?.best;
  const isSame = found?.epoch === best.epoch && found.step === best.step && found.gap === best.gap;
  if (!isSame) state.run = { ...state.run, best: null };
}

/** Returns the best validation so far. */
export function bestOf({ options, state }: Training): TrainOutcome["best"] {
  const { best } = state.run;
  return best === null ? null : { ...best, path: bestSnapshot(options.saveDir) };
}

/** Returns the epoch, or the step with an interval in steps, and the metrics of the last validation of this process; null without any. */
export function lastValidation({ scalars, state }: Training): TrainOutcome["validation"] {
  const metrics = scalars.latestOf("validation");
  const { validated_epoch: epoch, validated_step: step } = state.run;
  if (Object.keys(metrics).length === 0) return null;
  return { ...(step === undefined ? { epoch: epoch as number } : { step }), ...metrics };
}

/** The epoch that a validation belongs to and, if the interval is in steps, the number of steps so far. */
export interface ValidationPoint {
  readonly epoch: number;
  readonly step?: number;
}

/** Returns the validation that is due at the current position, and was not done yet; null for none. Epochs count from 1 for the interval. */
export function findDueValidation({ options, state }: Training): ValidationPoint | null {
  const { validInterval: interval } = options;
  const { step, epoch, step_in_epoch: inEpoch, validated_epoch, validated_step } = state.run;
  const current = inEpoch > 0 ? epoch : epoch - 1;
  // Any number % 0 is NaN.
  if ("steps" in interval) return step > 0 && step % interval.steps === 0 && validated_step !== step ? { epoch: current, step } : null;
  return inEpoch === 0 && epoch > 0 && epoch % interval.epochs === 0 && validated_epoch !== current ? { epoch: current } : null;
}

/** Validates if a validation is due; copies the last snapshot, which has the current weights, to `best` if it is the best so far. */
export async function validateIfDue(training: Training): Promise<void> {
  const { saver, state, options, scalars } = training;
  const { signal, saveDir, telemetry, skipped, earlyStop } = options;
  const due = findDueValidation(training);
  if (due === null || signal.aborted) return;
  const validation = await skipped.inner(() => saver.deferRequests(() => validate(training)));
  if (validation === null) return;
  logValidation(scalars, state, due, validation);
  await saver.flush();
  const snapshot = saver.lastWritten as string;
  const done = due.step === undefined ? { validated_epoch: due.epoch, validated_step: undefined } : { validated_step: due.step };
  const metrics = validation.ema ?? validation.weights;
  const stopping = earlyStop === null ? {} : { early_stopping: afterValidation(state.run.early_stopping, watchedOf(metrics)) };
  state.run = { ...state.run, ...done, ...stopping };
  const reached = describeReached(due, metrics);
  if (isBetter(reached, state.run.best)) {
    state.run = { ...state.run, best: reached };
    telemetry.log.info(`best so far: ${await copyToBest(snapshot, saveDir, state.run)}`);
  }
  // Do not change a snapshot of another save-dir, which this run resumed from.
  if (isInside(saveDir, snapshot)) await rewriteState(snapshot, state.run);
}

/** Returns the metric that decides which validation is better: mAP over the full ranking if it is computed, else GAP. */
function watchedOf({ gap, full_ranking: full }: Metrics): Watched {
  return full === undefined ? { metric: "gap", value: gap } : { metric: "map", value: full.map };
}

type Best = NonNullable<RunState["best"]>;

/** Returns the state of a validation, with its keys in the order in which a resumed run reads them: the file has the same bytes then. */
function describeReached({ epoch, step }: ValidationPoint, { gap, full_ranking: full }: Metrics): Best {
  return { epoch, gap, ...(full === undefined ? {} : { map: full.map }), ...(step === undefined ? {} : { step }) };
}

/** Compares by mAP over the full ranking if both validations have it, else by GAP. */
function isBetter(reached: Best, best: Best | null): boolean {
  if (best === null) return true;
  return reached.map !== undefined && best.map !== undefined ? reached.map > best.map : reached.gap > best.gap;
}

/** The metrics of a validation. */
export interface Validation {
  /** Of the current weights. */
  readonly weights: Metrics;
  /** Of their averages; null without TRAIN.ema_decay. */
  readonly ema: Metrics | null;
}

/** Returns the metrics on the validation shards; null if the signal was aborted. Throws TOO_FEW_VIDEOS. */
async function validate(training: Training): Promise<Validation | null> {
  const weights = await computeMetrics(training, "validation");
  const hasAverages = training.state.ema !== null;
  const ema = weights !== null && hasAverages ? await computeMetrics(training, "ema validation") : null;
  return weights === null || (hasAverages && ema === null) ? null : { weights, ema };
}

/** Returns the metrics of the weights, or of their averages; null if the signal was aborted. Throws as `validate` does. */
async function computeMetrics(training: Training, pass: ValidationPass): Promise<Metrics | null> {
  const { config, options } = training;
  const { num_classes: numClasses, topk, segments } = config.MODEL;
  if (!options.fullRanking) return measureWeights(training, pass, new MetricsAccumulator(numClasses, topk, null, segments), null);
  const rows = new ScoreRows(numClasses);
  const accumulator = new MetricsAccumulator(numClasses, topk, rows);
  const scores = await TemporaryScores.create(options.saveDir, rows);
  try {
    const metrics = await measureWeights(training, pass, accumulator, scores);
    return metrics && { ...metrics, full_ranking: await scores.rank(accumulator.sums.positives) };
  } finally {
    await scores.close();
  }
}

/** Adds the predictions of all validation videos to the accumulator, whose scores, if any, are written to `scores`. Returns and throws as `computeMetrics` does. */
async function measureWeights(
  { config, options, state, stepOptions }: Training,
  what: ValidationPass,
  accumulator: MetricsAccumulator,
  scores: TemporaryScores | null,
): Promise<Metrics | null> {
  const { telemetry, skipped, signal } = options;
  const { world } = stepOptions.division;
  announce(world, what);
  const store = what === "ema validation" && state.ema !== null ? state.ema.store : state.store;
  const pass = { title: what, logInterval: { steps: 0 }, signal, telemetry, skipped };
  const { stopped } = await withNetwork(config, store, state.kernels, (network) => {
    const { reading, computation } = describeValidation(config, options, network, world);
    const stream = openReading(reading, forwardStreamEvents(skipped, telemetry));
    return measure(computation, stream, accumulator, pass, { batches: scores });
  });
  if (stopped) return null;
  const filelist = describeFileList(config.VALID.filelist);
  if (accumulator.sums.videos[0] === 0) throw noVideosError(filelist, config.MODEL.segments ? "rated segments" : "videos");
  if (what === "validation") checkLabeled(accumulator, filelist, telemetry.log);
  return accumulator.result();
}

type ValidationPass = "validation" | "ema validation";

/** Other ranks than 0: computes this rank's batches of a validation of the weights in `store`. */
export async function followValidation(
  config: Config,
  source: ValidationSource,
  { kernels }: TrainingState,
  store: WeightStore,
  world: World,
): Promise<void> {
  await withNetwork(config, store, kernels, async (network) => {
    const { reading, computation } = describeValidation(config, source, network, world);
    await computeOwnBatches(openReading(reading), computation);
  });
}

/** Passes a network with the weights in `store` to `work`, and disposes of it. */
function withNetwork<T>({ MODEL }: Config, store: WeightStore, kernels: Kernels, work: (network: FrozenNetwork) => Promise<T>): Promise<T> {
  const { whole, release } = store.gatherRows();
  const network = new FrozenNetwork(modelSizes(MODEL), dropRates(MODEL), whole, kernels);
  return work(network).finally(() => {
    network.dispose();
    release();
  });
}

type ValidationSource = Pick<TrainOptions, "validShards" | "limitVideos" | "threads">;

/** Returns what each rank of a validation reads and computes. */
function describeValidation(
  { MODEL, TRAIN, VALID }: Config,
  { validShards: shards, limitVideos, threads }: ValidationSource,
  network: FrozenNetwork,
  world: World,
): { readonly reading: ReadOptions; readonly computation: Computation } {
  const { batch_size: batchSize } = VALID;
  const readers = countReaders(VALID.num_readers, threads);
  const { num_classes: numClasses } = MODEL;
  return {
    reading: {
      model: MODEL,
      labels: "required",
      shards,
      limitVideos: limitVideos ?? undefined,
      batchSize,
      readers,
      onCorrupt: TRAIN.on_corrupt,
      world,
    },
    computation: predictWith(network, { world, batchSize, numClasses, withLoss: true }),
  };
}
