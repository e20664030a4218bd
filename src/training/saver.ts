import { existsSync } from "node:fs";
import { basename } from "node:path";
import { NextvladError } from "../base/errors.js";
import { type Interval, isDue } from "../base/interval.js";
import { DISK_QUESTION, formatSeconds } from "../base/waiting.js";
import { copyArrays, writeInBackground } from "../checkpoints/background-writer.js";
import { epochSnapshot, findOutdated, type RunState, removeSnapshots, stepSnapshot, type WrittenBy } from "../checkpoints/snapshot.js";
import { isInside } from "../checkpoints/snapshot-layout.js";
import type { SnapshotTask } from "../checkpoints/snapshot-worker.js";
import type { World } from "../distributed/world.js";
import { branchPrefixes } from "../model/branch.js";
import { classifierBias } from "../model/classifier.js";
import type { DropRates } from "../model/drop-rates.js";
import { FrozenNetwork } from "../model/frozen.js";
import type { ModelSizes } from "../model/sizes.js";
import type { WeightStore } from "../model/weights.js";
import type { TrainOptions } from "./options.js";
import { announce } from "./ranks.js";
import type { TrainingState } from "./state.js";

export interface SaverOptions extends Pick<TrainOptions, "saveDir" | "lockText" | "keep" | "saveInterval" | "telemetry"> {
  readonly configYaml: string;
  readonly sizes: ModelSizes;
  readonly dropRates: DropRates;
  readonly writtenBy: WrittenBy;
  /** Path of the snapshot that the run resumed from, in the save-dir or elsewhere; null for a new run or other weights. */
  readonly resumedFrom: string | null;
  /** Time between a failed write and the second attempt, in which a mount may recover or a user may free space. */
  readonly retryMs: number;
  /** Called at the start of each save. */
  readonly beforeSave: () => Promise<void>;
  readonly world: World;
}

/** Writes snapshots in the background of training: `save` copies the arrays to the host and returns. At most one copy is in memory. */
export class Saver {
  readonly #options: SaverOptions;
  readonly #state: TrainingState;
  #inFlight: Promise<void> | null = null;
  #failure: unknown = null;
  #closed = false;
  #lastWritten: string | null;
  /** Step and epoch of the last save, so that nothing is saved twice. */
  #savedPosition: string | null = null;
  #savedMs = performance.now();
  /** Whether requests wait, and whether there was one. */
  #isDeferring = false;
  #isRequested = false;

  /** Saves `state` as it is at the time of each save. */
  constructor(options: SaverOptions, state: TrainingState) {
    this.#options = options;
    this.#state = state;
    const { resumedFrom, saveDir } = options;
    this.#lastWritten = resumedFrom;
    if (resumedFrom !== null && isInside(saveDir, resumedFrom)) this.#savedPosition = formatPosition(state.run);
  }

  /** Path of the last snapshot that is complete on the disk. */
  get lastWritten(): string | null {
    return this.#lastWritten;
  }

  /** Rethrows the error of a failed background write: the run ends, because it could not save anything from then on. */
  #rethrowFailure(): void {
    if (this.#failure !== null) throw this.#failure;
  }

  /** Saves if the save interval has ended. Throws the error of an earlier snapshot. */
  async saveIfDue(): Promise<void> {
    this.#rethrowFailure();
    if (isSaveDue(this.#options.saveInterval, this.#state.run, performance.now() - this.#savedMs)) await this.save();
  }

  /** Runs `work`, in which the ranks exchange something else than a save: what is requested during it is saved at its end. */
  async deferRequests<T>(work: () => Promise<T>): Promise<T> {
    this.#isDeferring = true;
    try {
      return await work();
    } finally {
      this.#isDeferring = false;
      if (this.#isRequested) await this.saveOnRequest();
    }
  }

  /** Saves between steps, outside of the training loop. The next call of another method throws the error, if any. */
  async saveOnRequest(): Promise<void> {
    this.#isRequested = this.#isDeferring;
    if (this.#isDeferring) return;
    await this.save().catch((error: unknown) => {
      this.#failure ??= error;
    });
  }

  /**
   * Waits for the snapshot in flight, then copies the arrays and starts writing the state as it is then; at the end of an epoch, under the epoch's name. Does
   * nothing if the state is already saved. Throws NOT_FINITE if the weights have diverged, or the error of an earlier snapshot.
   */
  async save(): Promise<void> {
    this.#savedMs = performance.now();
    const { saveDir, lockText, configYaml, sizes, writtenBy, retryMs, beforeSave, world } = this.#options;
    await beforeSave();
    while (this.#inFlight !== null) await this.#inFlight;
    this.#rethrowFailure();
    const { run: state } = this.#state;
    const { step, epoch, step_in_epoch } = state;
    if (this.#closed || this.#savedPosition === formatPosition(state)) return;
    const isEpochEnd = step_in_epoch === 0 && epoch > 0;
    const path = isEpochEnd ? epochSnapshot(saveDir, sizes.model, epoch - 1) : stepSnapshot(saveDir, sizes.model, step);
    const since = performance.now();
    announce(world, "save");
    const { weights, moments, ema } = this.#copyState();
    const copiedMs = performance.now() - since;
    this.#savedPosition = formatPosition(state);
    const task = { path, saveDir, lockText, weights, moments, ema, state, configYaml, writtenBy, retryMs };
    this.#inFlight = this.#write(task, copiedMs).finally(() => {
      this.#inFlight = null;
    });
  }

  /** Copies all arrays to the host, as `sendState` expects: without waiting, so that the ranks do nothing else meanwhile. Throws NOT_FINITE. */
  #copyState(): Pick<SnapshotTask, "weights" | "moments" | "ema"> {
    const { store, optimizer, ema } = this.#state;
    const { whole, release } = store.gatherRows();
    try {
      assertFiniteModel(whole, this.#state, this.#options);
      const [weights, moments] = [copyArrays(whole.arrays()), copyArrays(optimizer.arrays())];
      return { weights, moments, ema: copyArrays(ema?.store.arrays() ?? []) };
    } finally {
      release();
    }
  }

  /** Writes a snapshot, and removes outdated ones. Stores the error instead of throwing it. */
  async #write(task: SnapshotTask, copiedMs: number): Promise<void> {
    const { path, retryMs } = task;
    const { log } = this.#options.telemetry;
    const since = performance.now();
    const onRetry = (error: NextvladError): void =>
      log.warn(`cannot write snapshot ${path}, retrying in ${retryMs / 1000} s: ${error.message}`);
    const onSlow = (waitedMs: number): void =>
      log.warn(`snapshot ${path}: still writing after ${formatSeconds(waitedMs)}. ${DISK_QUESTION}`);
    try {
      await writeInBackground(task, onRetry, onSlow);
      this.#lastWritten = path;
      const writtenMs = performance.now() - since;
      log.info({ copied_ms: copiedMs, written_ms: writtenMs }, `snapshot: ${path}`);
      log.debug(`it was copied in ${copiedMs.toFixed(0)} ms, while training waited, and written in ${writtenMs.toFixed(0)} ms`);
    } catch (error) {
      this.#failure = this.#addLastSnapshot(error);
    }
    await this.#removeOutdated();
  }

  /** Waits until the snapshot in flight is on disk. Throws the error of a failed write. */
  async flush(): Promise<void> {
    while (this.#inFlight !== null) await this.#inFlight;
    this.#rethrowFailure();
  }

  /** Starts no more snapshots, and waits for the one in flight. Never throws. */
  async close(): Promise<void> {
    this.#closed = true;
    while (this.#inFlight !== null) await this.#inFlight;
  }

  /** Removes all but the `keep` newest snapshots. */
  async #removeOutdated(): Promise<void> {
    const { keep, saveDir, telemetry } = this.#options;
    if (keep === null || this.#failure !== null) return;
    try {
      const outdated = await findOutdated(saveDir, keep, basename(this.#lastWritten as string));
      await removeSnapshots(saveDir, outdated);
      if (outdated.length > 0) telemetry.log.info(`removed because of --keep ${keep}: ${outdated.join(", ")}`);
    } catch (error) {
      telemetry.log.warn(`cannot remove older snapshots: ${(error as Error).message}`);
    }
  }

  /** Adds the last complete snapshot to the error of a failed write. */
  #addLastSnapshot(error: unknown): unknown {
    if (!(error instanceof NextvladError) || error.code === "NOT_FINITE") return error;
    const last = this.#lastWritten;
    const earlier = last !== null && existsSync(last) ? `the last complete snapshot is ${last}` : "no earlier snapshot exists";
    const { remedy, ...details } = error.details;
    const advice = remedy === undefined ? earlier : `${remedy}; ${earlier}`;
    return new NextvladError(error.code, `writing a snapshot failed twice: ${error.what}`, { ...details, remedy: advice }, error);
  }
}

/** Other ranks: sends this rank's rows to rank 0, which saves the state. */
export function sendState({ store, optimizer, ema }: TrainingState): void {
  store.gatherRows().release();
  for (const array of [...optimizer.arrays(), ...(ema?.store.arrays() ?? [])]) if (array.isDivided) array.download();
}

const formatPosition = ({ step, epoch, step_in_epoch }: RunState): string => `${step} ${epoch} ${step_in_epoch}`;

/** Returns whether a snapshot is due. Never at the start of an epoch, where the end of the previous epoch has saved one, nor at the start of a run. */
export function isSaveDue(interval: Interval | null, { step, step_in_epoch }: RunState, elapsedMs: number): boolean {
  return interval !== null && step_in_epoch > 0 && isDue(interval, step, elapsedMs);
}

/**
 * Checks weights before they are saved, so that diverged weights do not replace valid ones. Throws NOT_FINITE if the classifier's bias is non-finite (a NaN loss
 * makes all weights NaN in one step, this bias first), or the logits are (finite weights may be huge). The thread that writes the snapshot checks the other
 * arrays.
 */
function assertFiniteModel(weights: WeightStore, { kernels, run }: TrainingState, { sizes, dropRates }: SaverOptions): void {
  if (
    !weights
      .variable(`${branchPrefixes(sizes.model)[0]}${classifierBias(sizes)}`)
      .download()
      .every(Number.isFinite)
  ) {
    throw new NextvladError("NOT_FINITE", `after ${run.step} steps the weights contain NaN or Inf`);
  }
  const network = new FrozenNetwork(sizes, dropRates, weights, kernels);
  const hasFiniteLogits = network.hasFiniteLogits();
  network.dispose();
  if (hasFiniteLogits) return;
  throw new NextvladError("NOT_FINITE", `after ${run.step} steps the model computes NaN or Inf from its weights, which are too large`);
}
