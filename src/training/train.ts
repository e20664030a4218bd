import { type RunState, readSnapshotState } from "../checkpoints/snapshot.js";
import type { Config } from "../config/schema.js";
import type { SkippedRecord } from "../data/corrupt-records.js";
import { addFirstCorrupt, type Shard } from "../data/shard.js";
import { type BatchStream, closeOnAbort, openStream } from "../data/stream.js";
import { learningRateAt } from "../optim/schedule.js";
import { forwardStreamEvents } from "../passes/reading.js";
import { describeEarlyStop, stopsEarly } from "./early-stopping.js";
import { epochOptions } from "./epoch.js";
import { explainFailure } from "./failure.js";
import { gatherBatch } from "./gather-batch.js";
import { recordHistogramsIfDue } from "./histograms.js";
import type { TrainOptions, TrainOutcome } from "./options.js";
import { announce, announceEpochEnd } from "./ranks.js";
import { EpochReport } from "./report.js";
import { startTraining, type Training } from "./start.js";
import { trainStep } from "./step.js";
import { bestOf, findDueValidation, lastValidation, loadBest, validateIfDue } from "./validation.js";

/**
 * Runs `nextvlad train`: trains, saves a snapshot after each epoch and at `saveInterval`, validates, and keeps the best snapshot. Ends after `epoch` epochs or
 * `max_iter` steps, or after the current step when `signal` is aborted. Throws NOT_FINITE if the loss is non-finite (see `on_nan`), and what `startTraining`,
 * reading, computing and saving throw, with the command that resumes from the last snapshot.
 */
export async function train(config: Config, options: TrainOptions): Promise<TrainOutcome> {
  let started: Training | null = null;
  options.onSaveRequest(() => void started?.saver.saveOnRequest());
  const training = await startTraining(config, options);
  if (training === null) return stoppedAtStart(options);
  started = training;
  try {
    await trainEpochs(training);
    announce(training.stepOptions.division.world, "run end");
    const { epoch, step } = training.state.run;
    const lastSnapshot = training.saver.lastWritten;
    // The last validation of a complete run stops nothing.
    const isComplete = epoch >= config.TRAIN.epoch || step >= config.TRAIN.max_iter;
    const stoppedEarly = isComplete ? null : describeEarlyStop(options.earlyStop, training.state.run);
    if (stoppedEarly !== null) options.telemetry.log.info(`stopped early: ${stoppedEarly}`);
    const [best, validation] = [bestOf(training), lastValidation(training)];
    return { stopped: options.signal.aborted, stoppedEarly, epochs: epoch, steps: step, lastSnapshot, best, validation };
  } catch (error) {
    throw await explainFailure(training, error);
  } finally {
    started = null;
    training.scalars.close();
    await training.losses.flush();
    await training.saver.close();
  }
}

/** Returns the outcome of a run that was stopped before its first step: what it resumes from is its last snapshot. */
async function stoppedAtStart({ resume }: TrainOptions): Promise<TrainOutcome> {
  const lastSnapshot = resume?.snapshot ?? null;
  const { epoch: epochs, step: steps } = lastSnapshot === null ? { epoch: 0, step: 0 } : await readSnapshotState(lastSnapshot);
  return { stopped: true, stoppedEarly: null, epochs, steps, lastSnapshot, best: null, validation: null };
}

async function trainEpochs(training: Training): Promise<void> {
  const { config, state, saver } = training;
  await loadBest(training);
  // The last one, if the resumed run was stopped before it.
  await validateIfDue(training);
  while (state.run.epoch < config.TRAIN.epoch && !isDone(training)) {
    const { epoch } = state.run;
    const isComplete = await trainEpoch(training);
    if (isComplete) state.run = startOfEpoch(state.run, epoch + 1);
    await saver.save();
    await validateIfDue(training);
    if (!isComplete) break;
  }
  await saver.flush();
}

/** Trains the rest of the epoch; returns false if the run ended within it. */
async function trainEpoch(training: Training): Promise<boolean> {
  const { config, options, state, saver, losses } = training;
  const { world } = training.stepOptions.division;
  const { epoch } = state.run;
  const stream = openEpoch(training);
  const report = new EpochReport(training, stream, epoch);
  const stopListening = closeOnAbort(stream, options.signal);
  try {
    for await (const own of stream) {
      if (isDone(training)) return false;
      // Before a step rather than after it: the end of an epoch saves its own snapshot.
      if (findDueValidation(training) !== null) await report.pause(() => saveAndValidate(training));
      if (isDone(training)) return false;
      await saver.saveIfDue();
      recordHistogramsIfDue(training);
      const isReported = report.isDue(state.run);
      announce(world, isReported ? "reported step" : "step");
      state.isUpdating = true;
      const gathered = gatherBatch(world, own, stream.bytesRead);
      const { batch } = gathered;
      const result = trainStep(batch, state, training.stepOptions, {
        step: state.run.step,
        report: isReported,
        learningRate: learningRateAt(state.run.step, config.TRAIN, state.run.shards?.videos ?? null),
        acceptLoss: losses.acceptor(batch.ids, state.run),
      });
      losses.record(batch.ids, state.run, result?.loss ?? null);
      report.logStep(gathered, result, state);
      state.run = { ...state.run, step: state.run.step + 1, step_in_epoch: state.run.step_in_epoch + 1 };
      state.isUpdating = false;
      report.showProgress();
      // After the update of the state: a snapshot may be requested during this wait.
      await losses.flushAtIntervals();
    }
    report.warnUnlabeled();
    report.logLosses();
    report.logBytesRead();
    if (stream.complete) announceEpochEnd(world, state);
    return stream.complete;
  } finally {
    report.end();
    stopListening();
    await stream.close();
    await options.skipped.endPass(`epoch ${epoch}`);
    losses.endEpoch(epoch);
  }
}

/** Inside an epoch: validates, with a snapshot that may become the best. */
async function saveAndValidate(training: Training): Promise<void> {
  await training.saver.save();
  await validateIfDue(training);
}

function isDone({ config, options, state }: Training): boolean {
  return options.signal.aborted || state.run.step >= config.TRAIN.max_iter || stopsEarly(options.earlyStop, state.run);
}

function startOfEpoch(run: RunState, epoch: number): RunState {
  return { ...run, epoch, step_in_epoch: 0, shards: run.shards && { ...run.shards, first_corrupt: [] } };
}

/** Opens the rest of the current epoch. */
function openEpoch({ config, options, state, stepOptions, repeatFactors }: Training): BatchStream {
  const { shards, threads, limitVideos, skipped, telemetry } = options;
  const events = forwardStreamEvents(skipped, telemetry);
  const source = { shards, threads, limitVideos, world: stepOptions.division.world, repeatFactors };
  return openStream(epochOptions(config, source, state.run), {
    ...events,
    onSkipped: (found) => {
      events.onSkipped?.(found);
      state.run = addSkipped(state.run, shards, found);
    },
  });
}

/** Adds skipped records to the state: up to the first one in each shard, a resumed run skips records by their headers. */
function addSkipped(run: RunState, list: readonly Shard[], skipped: readonly SkippedRecord[]): RunState {
  const { shards } = run;
  if (shards?.first_corrupt === undefined) return run;
  return { ...run, shards: { ...shards, first_corrupt: addFirstCorrupt(shards.first_corrupt, list, skipped) } };
}
