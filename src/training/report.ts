import { isDue } from "../base/interval.js";
import { formatBytes } from "../base/numbers.js";
import type { RunState } from "../checkpoints/snapshot.js";
import type { Config } from "../config/schema.js";
import type { BatchStream } from "../data/stream.js";
import { formatFullRanking, formatSegmentRanking, type Metrics, MetricsAccumulator } from "../evaluation/metrics.js";
import { describeTinyRate, learningRateAt } from "../optim/schedule.js";
import { countTensors } from "../runtime/constants.js";
import { formatTrainLine } from "../telemetry/paddle-lines.js";
import { Pace } from "../telemetry/progress.js";
import type { Scalars } from "../telemetry/scalars.js";
import { sparkline } from "../telemetry/sparkline.js";
import type { Telemetry } from "../telemetry/telemetry.js";
import type { GatheredBatch } from "./gather-batch.js";
import type { Training } from "./start.js";
import type { TrainingState } from "./state.js";
import type { StepReport } from "./step.js";
import type { Validation, ValidationPoint } from "./validation.js";

/** The share of the newest loss in the smoothed one: an average over about the last ten logged steps. */
const SMOOTHING = 0.1;

/** The share of the initial weights in the EMA weights from which the log says so. */
const MIN_INITIAL_SHARE = 0.01;

/** Maximum number of blocks that show an epoch's losses. */
const MAX_SPARKLINE = 40;

/** Reports an epoch of training: log lines in PaddleVideo's format, the progress bar, and curves. */
export class EpochReport {
  readonly #config: Config;
  readonly #logIntervalSteps: number;
  readonly #telemetry: Telemetry;
  readonly #scalars: Scalars;
  readonly #epoch: number;
  readonly #pace: Pace;
  readonly #labels = { videos: 0, unlabeled: 0 };
  /** Those that were logged. */
  readonly #losses: number[] = [];
  /** Of each rank. */
  #bytesRead: readonly number[] = [];

  constructor({ config, options, scalars }: Pick<Training, "config" | "options" | "scalars">, stream: BatchStream, epoch: number) {
    const { telemetry } = options;
    this.#config = config;
    this.#logIntervalSteps = options.logIntervalSteps;
    this.#telemetry = telemetry;
    this.#scalars = scalars;
    this.#epoch = epoch;
    this.#pace = new Pace(stream, { index: epoch, count: config.TRAIN.epoch });
    telemetry.progress.start("train");
  }

  /** Returns whether to log the next step: the first of the epoch, and every `logIntervalSteps` steps after it. */
  isDue({ step_in_epoch }: RunState): boolean {
    return isDue({ steps: this.#logIntervalSteps }, step_in_epoch, 0);
  }

  /** Counts a step's videos and, if the step returned a report, logs it with the metrics of the batch. The state is from before the step. */
  logStep(
    { batch, bytesRead }: GatheredBatch,
    report: StepReport | null,
    { run: { epoch, step, step_in_epoch, shards }, firstStep }: TrainingState,
  ): void {
    const { MODEL, TRAIN } = this.#config;
    const { log } = this.#telemetry;
    this.#bytesRead = bytesRead;
    this.#labels.videos += batch.labels.length;
    // Segments without a positive rating are no mistake.
    if (batch.rated === undefined) this.#labels.unlabeled += batch.labels.filter((list) => list.length === 0).length;
    this.#pace.count(batch.ids.length);
    const tinyRate = describeTinyRate(step, TRAIN);
    // Only once: at the first step, or when the rate decays below the threshold.
    if (tinyRate !== null && (step === firstStep || describeTinyRate(step - 1, TRAIN) === null)) log.warn({ step }, tinyRate);
    if (report === null) return;
    const { loss, probabilities, gradientNorms, exchangeWaitSeconds } = report;
    const accumulator = new MetricsAccumulator(MODEL.num_classes, MODEL.topk);
    accumulator.add(probabilities, batch.labels, Number.NaN, batch.rated);
    const metrics = averagesOf(accumulator.result());
    const { hit_at_one: hitAtOne, perr, gap } = metrics;
    const { seconds_left, ...pace } = this.#pace.facts();
    const smoothed = this.#scalars.latest("train/loss_smoothed") ?? loss;
    const values = {
      ...metrics,
      loss,
      loss_smoothed: smoothed + SMOOTHING * (loss - smoothed),
      learning_rate: learningRateAt(step, TRAIN, shards?.videos ?? null),
      gradient_norm: Math.hypot(...gradientNorms.values()),
      ...pace,
      ...(exchangeWaitSeconds === null ? {} : { exchange_wait_seconds: exchangeWaitSeconds }),
      peak_memory_bytes: process.resourceUsage().maxRSS * 1024,
    };
    this.#losses.push(loss);
    for (const [name, value] of Object.entries(values)) this.#scalars.scalar(step, `train/${name}`, value);
    for (const [parameter, norm] of gradientNorms) this.#scalars.scalar(step, `gradient_norm/${parameter}`, norm);
    const line = formatTrainLine({ epoch, step: step_in_epoch, loss, hitAtOne, perr, gap });
    this.#scalars.flush("train", { epoch, step, tensors: countTensors(), seconds_left }, `${line}, ${this.#pace.describe()}`);
  }

  /** Updates the progress bar, with the loss and GAP that were logged last. */
  showProgress(): void {
    const [loss, gap] = ["train/loss", "train/gap"].map((name) => this.#scalars.latest(name));
    this.#telemetry.progress.update({ ...this.#pace.state(), epoch: this.#epoch, loss, gap });
  }

  /** Runs something else than training inside the epoch: its time does not count for the speed. */
  async pause(work: () => Promise<void>): Promise<void> {
    const since = performance.now();
    await work();
    this.#pace.exclude(performance.now() - since);
    this.#telemetry.progress.start("train");
  }

  /** Warns if videos of the epoch had no labels. */
  warnUnlabeled(): void {
    const { videos, unlabeled } = this.#labels;
    if (unlabeled === 0) return;
    const facts = { videos, videos_without_labels: unlabeled };
    this.#telemetry.log.warn(facts, `${unlabeled} of ${videos} videos in this epoch have no labels`);
  }

  /** Logs how the logged losses of the epoch went, as a line of blocks. */
  logLosses(): void {
    const [first, last] = [this.#losses[0], this.#losses.at(-1)];
    const line = sparkline(this.#losses, MAX_SPARKLINE);
    if (line === "" || first === undefined || last === undefined) return;
    this.#telemetry.log.info(
      { epoch: this.#epoch },
      `epoch ${this.#epoch}: loss ${first.toPrecision(4)} to ${last.toPrecision(4)}  ${line}`,
    );
  }

  /** Logs the bytes that each of several ranks has read of the epoch. */
  logBytesRead(): void {
    const bytes = this.#bytesRead;
    if (bytes.length < 2) return;
    const [total, ...ofRanks] = [bytes.reduce((sum, count) => sum + count), ...bytes].map(formatBytes);
    this.#telemetry.log.info(
      { epoch: this.#epoch, bytes_read: bytes },
      `the ranks have read ${total} of shards in this epoch: ${ofRanks.join(", ")}`,
    );
  }

  /** Removes the progress bar. */
  end(): void {
    this.#telemetry.progress.end();
  }
}

/** Logs the metrics of a validation after an epoch, or inside it; their curves have the step before it. */
export function logValidation(scalars: Scalars, { run, ema }: TrainingState, at: ValidationPoint, validation: Validation): void {
  const { epoch } = at;
  const step = run.step - 1;
  const { videos, videos_without_labels } = validation.weights;
  const facts = { epoch, step, videos, videos_without_labels };
  const values = [`loss = ${validation.weights.loss.toFixed(6)}, ${formatMetrics(validation.weights)}`];
  addCurves(scalars, step, "", validation.weights);
  if (ema !== null && validation.ema !== null) {
    addCurves(scalars, step, "ema_", validation.ema);
    const share = ema.initialShare(run.step - (run.ema_from ?? 0));
    const initial = share < MIN_INITIAL_SHARE ? "" : ` (${(100 * share).toFixed(0)} % the initial weights)`;
    values.push(`EMA weights${initial}: loss = ${validation.ema.loss.toFixed(6)}, ${formatMetrics(validation.ema)}`);
  }
  scalars.flush("validation", facts, `[VALID] Epoch ${epoch}${at.step === undefined ? "" : `, step ${at.step}`}, ${values.join("; ")}`);
}

function addCurves(scalars: Scalars, step: number, prefix: string, metrics: Metrics): void {
  const curves: Readonly<Record<string, number>> = { ...averagesOf(metrics), ...rankingCurves(metrics) };
  for (const [name, value] of Object.entries(curves)) scalars.scalar(step, `validation/${prefix}${name}`, value);
}

function formatMetrics(metrics: Metrics): string {
  const [hit, perr, gap, map] = [metrics.hit_at_one, metrics.perr, metrics.gap, metrics.map].map((value) => value.toFixed(4));
  const { full_ranking: full, segments } = metrics;
  const ranked = full === undefined ? "" : `, full ranking: ${formatFullRanking(full)}`;
  const ofSegments = segments === undefined ? "" : `, ${formatSegmentRanking(segments)}`;
  return `Hit@1 = ${hit}, PERR = ${perr}, GAP = ${gap}, MAP = ${map}${ranked}${ofSegments}`;
}

/** Returns the metrics that are averages over videos or classes. */
function averagesOf({ hit_at_one, perr, gap, map, loss }: Metrics) {
  return { hit_at_one, perr, gap, map, loss };
}

/** Returns the curves of the metrics over the full ranking and of segments, by name. */
function rankingCurves({ full_ranking: full, segments }: Metrics): Readonly<Record<string, number>> {
  if (segments !== undefined) return { segment_map_at_k: segments.map_at_k };
  return full === undefined ? {} : { full_ranking_map: full.map, full_ranking_mauc: full.mauc, full_ranking_d_prime: full.d_prime };
}
