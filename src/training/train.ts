import { dirname, join, resolve } from "node:path";
import { writeFileAtomic } from "../base/files.js";
import {
  bestSnapshot,
  epochSnapshot,
  promoteToBest,
  readSnapshotState,
  removeSnapshots,
  rewriteState,
  stepSnapshot,
  writeSnapshot,
} from "../checkpoints/snapshot.js";
import { formatConfig } from "../config/format.js";
import type { Config } from "../config/schema.js";
import { resolveShards } from "../data/file-list.js";
import { type BatchStream, closeOnAbort, openStream } from "../data/stream.js";
import type { RaggedBatch } from "../data/video.js";
import { videoShape } from "../data/video-shape.js";
import { measure, openReading } from "../evaluation/evaluate.js";
import { FrozenNetwork } from "../model/frozen-network.js";
import { modelSizes } from "../model/sizes.js";
import { Pace } from "../telemetry/pace.js";
import { loadTensorflow } from "../tensorflow/runtime.js";
import { logStep, logValidation, refuseDiverged } from "./report.js";
import { learningRateAt } from "./schedule.js";
import { claimSaveDir, type StartOptions, startTrainee, type Trainee } from "./start.js";
import { type StepReport, trainStep } from "./step.js";

export interface TrainOptions extends StartOptions {
  /** Steps between log lines. */
  readonly logIntervalSteps: number;
  /** Epochs between validations; 0 for none. */
  readonly validIntervalEpochs: number;
  /** Aborted when the run should finish its step, save and end. */
  readonly signal: AbortSignal;
}

export interface TrainOutcome {
  readonly stopped: boolean;
  /** Epochs finished. */
  readonly epochs: number;
  /** Steps taken. */
  readonly steps: number;
  readonly lastSnapshot: string | null;
  readonly best: { readonly epoch: number; readonly gap: number; readonly path: string } | null;
}

/**
 * `nextvlad train`: trains, snapshots each epoch, validates, keeps the best; ends after `epoch` epochs, `max_iter` steps, or the step at which
 * the signal came. Throws what claiming the save-dir, reading, loading and writing throw, and NOT_FINITE where the loss is no number.
 */
export async function train(config: Config, options: TrainOptions): Promise<TrainOutcome> {
  const cwd = process.cwd();
  const { resumed, inTheWay } = await claimSaveDir(config, options);
  const shards = await resolveShards(config.TRAIN.filelist, { cwd });
  const validShards = options.validIntervalEpochs > 0 ? await resolveShards(config.VALID.filelist, { cwd }) : [];
  const { telemetry } = options;
  const device = await loadTensorflow(config.TRAIN.use_gpu);
  telemetry.log.info(`computing on the ${device.kind.toUpperCase()} (${device.reason}), TensorFlow ${device.tensorflowVersion}`);
  const trainee = await startTrainee(config, resumed, options);
  // Only now, when all that could fail at the start has not.
  await removeSnapshots(options.saveDir, inTheWay);
  await writeFileAtomic(join(options.saveDir, "config.yaml"), formatConfig(config));
  const run = new TrainingRun(config, options, trainee, shards, validShards);
  await run.finish();
  return run.outcome();
}

/** A run from its present state to its end. */
class TrainingRun {
  readonly #config: Config;
  readonly #options: TrainOptions;
  readonly #trainee: Trainee;
  readonly #shards: readonly string[];
  readonly #validShards: readonly string[];
  #state: Trainee["state"];
  #lastSnapshot: string | null;

  constructor(config: Config, options: TrainOptions, trainee: Trainee, shards: readonly string[], validShards: readonly string[]) {
    this.#config = config;
    this.#options = options;
    this.#trainee = trainee;
    this.#shards = shards;
    this.#validShards = validShards;
    this.#state = trainee.state;
    this.#lastSnapshot = options.resume?.snapshot ?? null;
  }

  outcome(): TrainOutcome {
    const { epoch, step, best } = this.#state;
    return {
      stopped: this.#options.signal.aborted,
      epochs: epoch,
      steps: step,
      lastSnapshot: this.#lastSnapshot,
      best: best === null ? null : { ...best, path: bestSnapshot(this.#options.saveDir) },
    };
  }

  get #ended(): boolean {
    return this.#options.signal.aborted || this.#state.step >= this.#config.TRAIN.max_iter;
  }

  async finish(): Promise<void> {
    await this.#recallBest();
    const { epoch: next, step_in_epoch } = this.#state;
    if (step_in_epoch === 0 && next > 0 && this.#state.validated_epoch !== next - 1) await this.#validateIfDue(next - 1);
    while (this.#state.epoch < this.#config.TRAIN.epoch && !this.#ended) {
      const { epoch } = this.#state;
      const whole = await this.#trainEpoch();
      if (!whole) {
        await this.#save(stepSnapshot(this.#options.saveDir, this.#state.step));
        return;
      }
      this.#state = { ...this.#state, epoch: epoch + 1, step_in_epoch: 0 };
      await this.#save(epochSnapshot(this.#options.saveDir, epoch));
      await this.#validateIfDue(epoch);
    }
  }

  /** A best validation counts only where its snapshot is in the save-dir: a run that goes on elsewhere finds its best anew. */
  async #recallBest(): Promise<void> {
    const { best } = this.#state;
    if (best === null) return;
    const there = await readSnapshotState(bestSnapshot(this.#options.saveDir)).catch(() => null);
    if (there?.best?.epoch !== best.epoch || there.best.gap !== best.gap) this.#state = { ...this.#state, best: null };
  }

  async #save(path: string): Promise<void> {
    const { store, adam } = this.#trainee;
    refuseDiverged(store, this.#state.step);
    const configYaml = formatConfig(this.#config);
    await writeSnapshot(path, { weights: store.arrays(), moments: adam.arrays(), state: this.#state, configYaml });
    this.#lastSnapshot = path;
    this.#options.telemetry.log.info(`snapshot: ${path}`);
  }

  /** Trains what is left of the epoch; false where the run ended inside it. */
  async #trainEpoch(): Promise<boolean> {
    const { MODEL, TRAIN } = this.#config;
    const { epoch, step_in_epoch, seed } = this.#state;
    const stream = openStream({
      ...videoShape(MODEL, "required"),
      shards: this.#shards,
      order: "shuffled",
      seed,
      epoch,
      batchSize: TRAIN.batch_size,
      dropLast: true,
      shuffleBuffer: TRAIN.shuffle_buffer,
      readers: TRAIN.num_readers,
      skipBatches: step_in_epoch,
    });
    const { progress } = this.#options.telemetry;
    const pace = new Pace(stream, { index: epoch, count: TRAIN.epoch });
    const release = closeOnAbort(stream, this.#options.signal);
    progress.begin(`epoch ${epoch}`);
    try {
      return await this.#trainOn(stream, pace);
    } finally {
      progress.end();
      release();
      await stream.close();
    }
  }

  async #trainOn(stream: BatchStream, pace: Pace): Promise<boolean> {
    let told: { loss: number; gap: number } | null = null;
    for await (const batch of stream) {
      if (this.#ended) return false;
      const report = this.#step(batch);
      pace.count(batch.ids.length);
      if (report !== null) told = logStep(this.#options.telemetry.log, report, batch, this.#config, this.#state, pace);
      this.#state = { ...this.#state, step: this.#state.step + 1, step_in_epoch: this.#state.step_in_epoch + 1 };
      this.#options.telemetry.progress.update({ ...pace.state(), ...told });
    }
    return stream.complete;
  }

  #step(batch: RaggedBatch): StepReport | null {
    const { MODEL, TRAIN } = this.#config;
    const { step, step_in_epoch, seed } = this.#state;
    const { logIntervalSteps } = this.#options;
    const report = logIntervalSteps > 0 && step_in_epoch % logIntervalSteps === 0;
    const { store, adam } = this.#trainee;
    return trainStep(
      batch,
      step,
      learningRateAt(step, TRAIN),
      store,
      adam,
      {
        sizes: modelSizes(MODEL),
        dropRate: MODEL.drop_rate,
        l2Penalty: TRAIN.l2_penalty,
        gradientClip: TRAIN.gradient_clip,
        seed,
      },
      report,
    );
  }

  async #validateIfDue(epoch: number): Promise<void> {
    const { validIntervalEpochs, signal } = this.#options;
    if (validIntervalEpochs > 0 && (epoch + 1) % validIntervalEpochs === 0 && !signal.aborted) await this.#validate(epoch);
  }

  async #validate(epoch: number): Promise<void> {
    const { MODEL, VALID } = this.#config;
    const { telemetry, signal, saveDir } = this.#options;
    const network = new FrozenNetwork(modelSizes(MODEL), MODEL.drop_rate, this.#trainee.store);
    const stream = openReading(this.#config, this.#validShards, VALID.batch_size, VALID.num_readers, "required");
    const watch = { title: "validation", logIntervalSteps: 0, signal, telemetry };
    const { metrics, stopped } = await measure(network, stream, MODEL.num_classes, MODEL.topk, watch);
    network.dispose();
    if (stopped) return;
    logValidation(telemetry.log, epoch, metrics);
    const snapshot = this.#lastSnapshot as string;
    const { best } = this.#state;
    this.#state = { ...this.#state, validated_epoch: epoch };
    if (best === null || metrics.gap > best.gap) {
      this.#state = { ...this.#state, best: { epoch, gap: metrics.gap } };
      telemetry.log.info(`best so far: ${await promoteToBest(snapshot, saveDir, this.#state)}`);
    }
    // The snapshot of another save-dir, which this run goes on from, stays as it is.
    if (dirname(resolve(snapshot)) === resolve(saveDir)) await rewriteState(snapshot, this.#state);
  }
}
