import type { Logger } from "pino";
import { isDue } from "../base/interval.js";
import { formatBytes } from "../base/numbers.js";
import type { RunState } from "../checkpoints/snapshot.js";
import type { Config } from "../config/schema.js";
import type { BatchStream } from "../data/stream.js";
import { formatFullRanking, type Metrics, MetricsAccumulator, summarize } from "../evaluation/metrics.js";
import { describeTinyRate, learningRateAt } from "../optim/schedule.js";
import { countTensors } from "../runtime/constants.js";
import { formatTrainLine } from "../telemetry/paddle-lines.js";
import { Pace } from "../telemetry/progress.js";
import type { Telemetry } from "../telemetry/telemetry.js";
import type { GatheredBatch } from "./gather-batch.js";
import type { TrainingState } from "./state.js";
import type { StepReport } from "./step.js";

/** Reports an epoch of training: log lines in PaddleVideo's format, and the progress bar. */
export class EpochReport {
  readonly #config: Config;
  readonly #logIntervalSteps: number;
  readonly #telemetry: Telemetry;
  readonly #epoch: number;
  readonly #pace: Pace;
  readonly #labels = { videos: 0, unlabeled: 0 };
  /** Of each rank. */
  #bytesRead: readonly number[] = [];
  #logged: { readonly loss: number; readonly gap: number } | null = null;

  constructor(
    config: Config,
    { logIntervalSteps, telemetry }: { readonly logIntervalSteps: number; readonly telemetry: Telemetry },
    stream: BatchStream,
    epoch: number,
  ) {
    this.#config = config;
    this.#logIntervalSteps = logIntervalSteps;
    this.#telemetry = telemetry;
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
    { run: { epoch, step, step_in_epoch }, firstStep }: TrainingState,
  ): void {
    const { MODEL, TRAIN } = this.#config;
    const { log } = this.#telemetry;
    this.#bytesRead = bytesRead;
    this.#labels.videos += batch.labels.length;
    this.#labels.unlabeled += batch.labels.filter((list) => list.length === 0).length;
    this.#pace.count(batch.ids.length);
    const tinyRate = describeTinyRate(step, TRAIN);
    // Only once: at the first step, or when the rate decays below the threshold.
    if (tinyRate !== null && (step === firstStep || describeTinyRate(step - 1, TRAIN) === null)) log.warn({ step }, tinyRate);
    if (report === null) return;
    const { loss, probabilities } = report;
    const accumulator = new MetricsAccumulator(MODEL.num_classes, MODEL.topk);
    accumulator.add(probabilities, batch.labels);
    const { hit_at_one, perr, gap } = accumulator.result();
    const line = formatTrainLine({ epoch, step: step_in_epoch, loss, hitAtOne: hit_at_one, perr, gap });
    const facts = { epoch, step, loss, hit_at_one, perr, gap, learning_rate: learningRateAt(step, TRAIN), tensors: countTensors() };
    log.info({ ...facts, ...this.#pace.facts() }, `${line}, ${this.#pace.describe()}`);
    this.#logged = { loss, gap };
  }

  /** Updates the progress bar, with the loss and GAP that were logged last. */
  showProgress(): void {
    this.#telemetry.progress.update({ ...this.#pace.state(), epoch: this.#epoch, ...this.#logged });
  }

  /** Warns if videos of the epoch had no labels. */
  warnUnlabeled(): void {
    const { videos, unlabeled } = this.#labels;
    if (unlabeled === 0) return;
    const facts = { videos, videos_without_labels: unlabeled };
    this.#telemetry.log.warn(facts, `${unlabeled} of ${videos} videos in this epoch have no labels`);
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

/** Logs the metrics of a validation. */
export function logValidation(log: Logger, epoch: number, metrics: Metrics): void {
  const [hit, perr, gap, map] = [metrics.hit_at_one, metrics.perr, metrics.gap, metrics.map].map((value) => value.toFixed(4));
  const { full_ranking: full } = metrics;
  const ranked = full === undefined ? "" : `, full ranking: ${formatFullRanking(full)}`;
  const values = `Hit@1 = ${hit}, PERR = ${perr}, GAP = ${gap}, MAP = ${map}${ranked}`;
  log.info({ epoch, ...summarize(metrics) }, `[VALID] Epoch ${epoch}, loss = ${metrics.loss.toFixed(6)}, ${values}`);
}
