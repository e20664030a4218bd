import { existsSync } from "node:fs";
import { basename } from "node:path";
import { NextvladError } from "../base/errors.js";
import {
  bestSnapshot,
  checkSnapshot,
  copyToBest,
  epochSnapshot,
  type RunState,
  rewriteState,
  stepSnapshot,
} from "../checkpoints/snapshot.js";
import { liesIn } from "../checkpoints/snapshot-layout.js";
import type { Config } from "../config/schema.js";
import { adviseSkipping, type SkippedRecord } from "../data/corrupt-records.js";
import { describeFileList } from "../data/file-list.js";
import { addFirstCorrupt, fingerprintList, type Shard } from "../data/shard.js";
import { type BatchStream, closeOnAbort, openStream } from "../data/stream.js";
import { type RaggedBatch, videoShape } from "../data/video.js";
import { measure, noVideos, openReading } from "../evaluation/evaluate.js";
import { checkLabelled, MetricsAccumulator } from "../evaluation/metrics.js";
import { tellEvents } from "../evaluation/watched-batches.js";
import { FrozenNetwork } from "../model/frozen.js";
import { modelSizes } from "../model/sizes.js";
import { describeTinyRate, learningRateAt } from "../optim/schedule.js";
import { Pace } from "../telemetry/progress.js";
import type { LossWatch } from "./loss-watch.js";
import type { TrainOptions, TrainOutcome } from "./options.js";
import { logStep, logValidation } from "./report.js";
import { isDue } from "./save-interval.js";
import type { Saver } from "./saver.js";
import type { Trainee } from "./start.js";
import { type StepOptions, type StepReport, trainStep } from "./step.js";

/** Runs training from the current state to the end. */
export class TrainingRun {
  readonly #config: Config;
  readonly #options: TrainOptions;
  readonly #trainee: Trainee;
  readonly #stepOptions: StepOptions;
  readonly #saver: Saver;
  readonly #shards: readonly Shard[];
  readonly #validShards: readonly Shard[];
  readonly #losses: LossWatch;
  #state: RunState;
  /** Whether a step is in progress; an error then may leave some weights updated and others not. */
  #isUpdating = false;
  #savedMs = performance.now();
  #isRateTiny = false;

  constructor(
    config: Config,
    options: TrainOptions,
    trainee: Trainee,
    saver: Saver,
    shards: readonly Shard[],
    validShards: readonly Shard[],
    losses: LossWatch,
  ) {
    this.#config = config;
    this.#losses = losses;
    this.#options = options;
    this.#trainee = trainee;
    this.#saver = saver;
    this.#shards = shards;
    this.#validShards = validShards;
    this.#state = trainee.state;
    const { MODEL, TRAIN } = config;
    this.#stepOptions = {
      kernels: trainee.kernels,
      sizes: modelSizes(MODEL),
      dropRate: MODEL.drop_rate,
      l2Penalty: TRAIN.l2_penalty,
      gradientClip: TRAIN.gradient_clip,
      seed: trainee.state.seed,
    };
  }

  outcome(): TrainOutcome {
    const { epoch, step, best } = this.#state;
    return {
      stopped: this.#options.signal.aborted,
      epochs: epoch,
      steps: step,
      lastSnapshot: this.#saver.lastWritten,
      best: best === null ? null : { ...best, path: bestSnapshot(this.#options.saveDir) },
    };
  }

  get #ended(): boolean {
    return this.#options.signal.aborted || this.#state.step >= this.#config.TRAIN.max_iter;
  }

  /**
   * Trains to the end of the run. Throws NOT_FINITE after listing the suspect batches, and what reading, computing and saving throw, with the command that
   * resumes from the last snapshot. After an error between steps, saves the last step first; within a step, some weights may be updated and others not.
   */
  async finish(): Promise<void> {
    try {
      await this.#finish();
    } catch (error) {
      const { resume } = this.#options;
      if (error instanceof NextvladError && error.code === "BAD_SNAPSHOT" && resume !== null) {
        await this.#saver.close();
        throw new NextvladError(error.code, error.what, { ...error.details, file: resume.path }, error.cause);
      }
      if (error instanceof NextvladError && error.code === "NOT_FINITE") {
        await this.#saver.close();
        throw await this.#losses.explain(error, this.#lastSnapshot);
      }
      const failure = this.#isUpdating ? await this.#saver.close() : await this.#saveAfter(error);
      throw this.#adviseResuming(error, failure ?? null);
    } finally {
      await this.#losses.settle();
    }
  }

  async #finish(): Promise<void> {
    await this.#recallBest();
    const { epoch: next, step_in_epoch } = this.#state;
    if (step_in_epoch === 0 && next > 0 && this.#state.validated_epoch !== next - 1) await this.#validateIfDue(next - 1);
    while (this.#state.epoch < this.#config.TRAIN.epoch && !this.#ended) {
      const { epoch } = this.#state;
      const whole = await this.#trainEpoch();
      if (!whole) {
        await this.#saveStep();
        break;
      }
      const { shards } = this.#state;
      this.#state = { ...this.#state, epoch: epoch + 1, step_in_epoch: 0, shards: shards && { ...shards, first_corrupt: [] } };
      await this.#save(() => epochSnapshot(this.#options.saveDir, this.#config.MODEL.name, epoch));
      await this.#validateIfDue(epoch);
    }
    await this.#saver.settle();
  }

  /** Saves the last step after an error between steps; returns the error of saving, or null. */
  async #saveAfter(error: unknown): Promise<unknown> {
    if (this.#state.step === this.#trainee.state.step) return null;
    const shard = error instanceof NextvladError && error.details.damaged !== undefined ? error.details.file : undefined;
    if (shard !== undefined) {
      // Keep the contents that the run started with.
      const shards = { ...this.#state.shards, ...fingerprintList(this.#shards, basename(shard)) };
      this.#state = { ...this.#state, shards };
    }
    return this.#trySave();
  }

  /** The last written snapshot if it still exists, else null. */
  get #lastSnapshot(): string | null {
    const snapshot = this.#saver.lastWritten;
    return snapshot !== null && existsSync(snapshot) ? snapshot : null;
  }

  /** Returns the error with the last snapshot and the command that resumes from it. `failure` is the error of saving the last step, or null. */
  #adviseResuming(error: unknown, failure: unknown): unknown {
    const snapshot = this.#lastSnapshot;
    const isSaved = snapshot !== null;
    const facts = [
      ...(failure === null || failure === error
        ? []
        : [`the last step could not be saved (${(failure as Error).message.replace(/\.$/, "")})`]),
      ...(isSaved ? [`training stopped after ${this.#state.step} steps; the last snapshot is ${snapshot}`] : []),
    ];
    const isDamage = error instanceof NextvladError && error.details.damaged !== undefined;
    const { resumeCommand, telemetry } = this.#options;
    const commands = isSaved
      ? [
          `resume with: ${resumeCommand(snapshot)}`,
          ...(isDamage ? [`or, to skip corrupt records: ${resumeCommand(snapshot, ["--on-corrupt", "skip-record"])}`] : []),
        ]
      : [];
    if (error instanceof NextvladError) {
      const { code, what, details, cause } = adviseSkipping(error);
      const remedy = [details.remedy, ...facts].filter((part) => part !== undefined).join("; ");
      return new NextvladError(code, what, { ...details, ...(remedy === "" ? {} : { remedy }), commands }, cause);
    }
    for (const line of [...facts, ...commands]) telemetry.log.warn(line);
    return error;
  }

  /** Saves the current state and waits for it; returns the error, or null. */
  async #trySave(): Promise<unknown> {
    try {
      await this.#saveStep();
      await this.#saver.settle();
      return null;
    } catch (failure) {
      return failure;
    }
  }

  /** Saves a snapshot on request. An error ends the run at the next step. */
  async saveNow(): Promise<void> {
    await this.#saveStep().catch((error: unknown) => this.#saver.fail(error));
  }

  /** Drops the best validation if its snapshot is not in the save-dir: a run resumed in another save-dir determines its best again. */
  async #recallBest(): Promise<void> {
    const { best } = this.#state;
    if (best === null) return;
    const there = await checkSnapshot(bestSnapshot(this.#options.saveDir)).catch(() => null);
    if (there?.best?.epoch !== best.epoch || there.best.gap !== best.gap) this.#state = { ...this.#state, best: null };
  }

  /** Saves the current state; at the end of an epoch, under the epoch's name, so that nothing is saved twice. */
  #saveStep(): Promise<void> {
    const { saveDir } = this.#options;
    const model = this.#config.MODEL.name;
    return this.#save(({ step, epoch, step_in_epoch }) =>
      step_in_epoch === 0 && epoch > 0 ? epochSnapshot(saveDir, model, epoch - 1) : stepSnapshot(saveDir, model, step),
    );
  }

  /** Starts writing a snapshot once the previous one is written. First writes the list of suspect batches, which a resumed run does not see again. */
  async #save(path: (state: RunState) => string): Promise<void> {
    this.#savedMs = performance.now();
    await this.#losses.settle();
    return this.#saver.begin(() => ({ path: path(this.#state), state: this.#state }));
  }

  /** Trains the rest of the epoch; returns false if the run ended within it. */
  async #trainEpoch(): Promise<boolean> {
    const { MODEL, TRAIN } = this.#config;
    const { epoch, step_in_epoch, seed } = this.#state;
    const { damage, telemetry } = this.#options;
    const events = tellEvents(damage, telemetry);
    const stream = openStream(
      {
        ...videoShape(MODEL, "required"),
        onCorrupt: TRAIN.on_corrupt,
        shards: this.#shards,
        order: "shuffled",
        seed,
        epoch,
        batchSize: TRAIN.batch_size,
        dropLast: true,
        shuffleBuffer: TRAIN.shuffle_buffer,
        readers: TRAIN.num_readers,
        skipBatches: step_in_epoch,
        firstCorrupt: this.#state.shards?.first_corrupt,
      },
      {
        ...events,
        onSkipped: (skipped) => {
          events.onSkipped?.(skipped);
          this.#noteCorrupt(skipped);
        },
      },
    );
    const { progress } = telemetry;
    const pace = new Pace(stream, { index: epoch, count: TRAIN.epoch });
    const release = closeOnAbort(stream, this.#options.signal);
    progress.start("train");
    try {
      return await this.#trainOn(stream, pace);
    } finally {
      progress.end();
      release();
      await stream.close();
      await damage.conclude(`epoch ${epoch}`);
      this.#losses.conclude(epoch);
    }
  }

  /** Adds skipped records to the state: up to the first one of a shard, a resumed run skips records by their headers. */
  #noteCorrupt(skipped: readonly SkippedRecord[]): void {
    const { shards } = this.#state;
    if (shards?.first_corrupt === undefined) return;
    const first_corrupt = addFirstCorrupt(shards.first_corrupt, this.#shards, skipped);
    this.#state = { ...this.#state, shards: { ...shards, first_corrupt } };
  }

  async #trainOn(stream: BatchStream, pace: Pace): Promise<boolean> {
    let told: { loss: number; gap: number } | null = null;
    const labels = { videos: 0, unlabelled: 0 };
    for await (const batch of stream) {
      if (this.#ended) return false;
      labels.videos += batch.labels.length;
      labels.unlabelled += batch.labels.filter((list) => list.length === 0).length;
      // Before a step and not after it, because the end of an epoch saves its own snapshot.
      this.#saver.refuseFailed();
      if (isDue(this.#options.saveInterval, this.#state, performance.now() - this.#savedMs)) await this.#saveStep();
      this.#isUpdating = true;
      const report = this.#step(batch);
      this.#losses.note(batch.ids, this.#state, report?.loss ?? null);
      pace.count(batch.ids.length);
      if (report !== null) told = logStep(this.#options.telemetry.log, report, batch, this.#config, this.#state, pace);
      this.#state = { ...this.#state, step: this.#state.step + 1, step_in_epoch: this.#state.step_in_epoch + 1 };
      this.#isUpdating = false;
      this.#options.telemetry.progress.update({ ...pace.state(), epoch: this.#state.epoch, ...told });
      // Only after the state is updated: a snapshot may be requested during this wait.
      await this.#losses.settleSparingly();
    }
    if (labels.unlabelled > 0) {
      const words = `${labels.unlabelled} of ${labels.videos} videos in this epoch have no labels`;
      this.#options.telemetry.log.warn({ videos: labels.videos, videos_without_labels: labels.unlabelled }, words);
    }
    return stream.complete;
  }

  #step(batch: RaggedBatch): StepReport | null {
    const { step, step_in_epoch } = this.#state;
    const { logIntervalSteps } = this.#options;
    const report = logIntervalSteps > 0 && step_in_epoch % logIntervalSteps === 0;
    this.#warnOfTinyRate(step);
    return trainStep(batch, this.#trainee, this.#stepOptions, {
      step,
      report,
      learningRate: learningRateAt(step, this.#config.TRAIN),
      acceptLoss: this.#losses.acceptor(batch.ids, this.#state),
    });
  }

  /** Warns once if the learning rate is too small to train, at the start or after decay. */
  #warnOfTinyRate(step: number): void {
    if (this.#isRateTiny) return;
    const warning = describeTinyRate(step, this.#config.TRAIN);
    if (warning === null) return;
    this.#isRateTiny = true;
    this.#options.telemetry.log.warn({ step }, warning);
  }

  async #validateIfDue(epoch: number): Promise<void> {
    const { validIntervalEpochs, signal } = this.#options;
    if (validIntervalEpochs > 0 && (epoch + 1) % validIntervalEpochs === 0 && !signal.aborted) await this.#validate(epoch);
  }

  async #validate(epoch: number): Promise<void> {
    const { MODEL, TRAIN, VALID } = this.#config;
    const { telemetry, damage, signal, saveDir } = this.#options;
    const network = new FrozenNetwork(modelSizes(MODEL), MODEL.drop_rate, this.#trainee.store, this.#trainee.kernels);
    const stream = openReading(this.#config, this.#validShards, VALID.batch_size, VALID.num_readers, "required", {
      onCorrupt: TRAIN.on_corrupt,
      events: tellEvents(damage, telemetry),
    });
    const watch = { title: "validation", logInterval: { steps: 0 }, signal, telemetry, damage };
    const { num_classes: classes, topk } = MODEL;
    const accumulator = new MetricsAccumulator(classes, topk);
    const { stopped } = await measure(network, stream, { classes, topk }, watch, accumulator);
    network.dispose();
    if (stopped) return;
    if (accumulator.sums.videos[0] === 0) throw noVideos(describeFileList(VALID.filelist));
    checkLabelled(accumulator, describeFileList(VALID.filelist), telemetry.log);
    const metrics = accumulator.result();
    logValidation(telemetry.log, epoch, metrics);
    await this.#saver.settle();
    const snapshot = this.#saver.lastWritten as string;
    const { best } = this.#state;
    this.#state = { ...this.#state, validated_epoch: epoch };
    if (best === null || metrics.gap > best.gap) {
      this.#state = { ...this.#state, best: { epoch, gap: metrics.gap } };
      telemetry.log.info(`best so far: ${await copyToBest(snapshot, saveDir, this.#state)}`);
    }
    // Do not change a snapshot of another save-dir, which this run resumed from.
    if (liesIn(saveDir, snapshot)) await rewriteState(snapshot, this.#state);
  }
}
