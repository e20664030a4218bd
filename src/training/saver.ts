import { existsSync } from "node:fs";
import { basename } from "node:path";
import { NextvladError } from "../base/errors.js";
import { describeWait } from "../base/waiting.js";
import { copyArrays, writeInBackground } from "../checkpoints/background-writer.js";
import type { RunState, WrittenBy } from "../checkpoints/snapshot.js";
import { findOutdated, removeSnapshots } from "../checkpoints/snapshot.js";
import { liesIn } from "../checkpoints/snapshot-layout.js";
import type { Telemetry } from "../telemetry/telemetry.js";
import { type Model, refuseDiverged } from "./report.js";
import type { Trainee } from "./start.js";

export interface SaverOptions {
  readonly saveDir: string;
  /** Text of the save-dir's lock. */
  readonly lockText: string;
  /** Number of newest snapshots to keep; null for all. */
  readonly keep: number | null;
  readonly configYaml: string;
  readonly model: Model;
  readonly writtenBy: WrittenBy;
  readonly telemetry: Telemetry;
  /** Path of the snapshot that the run resumed from, in the save-dir or elsewhere; null if there is none. */
  readonly resumedFrom: string | null;
  /** Time between a failed write and the second attempt, so that a mount can recover or space can be freed. */
  readonly retryMs: number;
}

/** Writes snapshots in the background of training: `begin` copies the arrays to the host and returns. At most one copy is in memory. */
export class Saver {
  readonly #options: SaverOptions;
  readonly #trainee: Pick<Trainee, "store" | "optimizer" | "kernels">;
  #inFlight: Promise<void> | null = null;
  #failure: unknown = null;
  #closed = false;
  #lastWritten: string | null;
  /** Step and epoch of the last save, so that nothing is saved twice. */
  #savedAt: string | null = null;

  constructor(options: SaverOptions, { store, optimizer, kernels, state }: Trainee) {
    this.#options = options;
    this.#trainee = { store, optimizer, kernels };
    const { resumedFrom, saveDir } = options;
    this.#lastWritten = resumedFrom;
    if (resumedFrom !== null && liesIn(saveDir, resumedFrom)) this.#savedAt = placeOf(state);
  }

  /** Path of the last snapshot that is complete on the disk. */
  get lastWritten(): string | null {
    return this.#lastWritten;
  }

  /** Rethrows the error of a failed background write. The run must end then, because otherwise it would continue without saving anything. */
  refuseFailed(): void {
    if (this.#failure !== null) throw this.#failure;
  }

  /** Records an error that prevented a snapshot, for `refuseFailed`. */
  fail(error: unknown): void {
    this.#failure ??= error;
  }

  /**
   * Waits for the snapshot in flight, then calls `place` for the path and the state, copies the arrays and starts writing. Does nothing if the state is already
   * saved. Throws NOT_FINITE if the weights have diverged, or the error of an earlier snapshot.
   */
  async begin(place: () => { readonly path: string; readonly state: RunState }): Promise<void> {
    while (this.#inFlight !== null) await this.#inFlight;
    this.refuseFailed();
    const { path, state } = place();
    if (this.#closed || this.#savedAt === placeOf(state)) return;
    const { store, optimizer, kernels } = this.#trainee;
    refuseDiverged(store, kernels, this.#options.model, state.step);
    const { saveDir, lockText, configYaml, writtenBy, telemetry, retryMs } = this.#options;
    const since = performance.now();
    const [weights, moments] = [copyArrays(store.arrays()), copyArrays(optimizer.arrays())];
    const copiedMs = performance.now() - since;
    this.#savedAt = placeOf(state);
    const task = { path, saveDir, lockText, weights, moments, state, configYaml, writtenBy, retryMs };
    const warn = (error: NextvladError): void =>
      telemetry.log.warn(`the snapshot ${path} could not be written, once more in ${retryMs / 1000} s: ${error.message}`);
    const tellSlow = (waitedMs: number): void => telemetry.log.warn(describeWait(`the snapshot ${path} has been in writing`, waitedMs));
    this.#inFlight = writeInBackground(task, warn, tellSlow)
      .then(async () => {
        this.#lastWritten = path;
        const writtenMs = performance.now() - since - copiedMs;
        telemetry.log.info({ copied_ms: copiedMs, written_ms: writtenMs }, `snapshot: ${path}`);
      })
      .catch((error: unknown) => {
        this.#failure = this.#describe(error);
      })
      .then(() => this.#rotate())
      .finally(() => {
        this.#inFlight = null;
      });
  }

  /** Waits until the snapshot in flight is on the disk. Throws the error of a failed write. */
  async settle(): Promise<void> {
    while (this.#inFlight !== null) await this.#inFlight;
    this.refuseFailed();
  }

  /** Starts no more snapshots, and waits for the one in flight. Never throws. */
  async close(): Promise<void> {
    this.#closed = true;
    while (this.#inFlight !== null) await this.#inFlight;
  }

  async #rotate(): Promise<void> {
    const { keep, saveDir, telemetry } = this.#options;
    if (keep === null || this.#failure !== null) return;
    try {
      const outdated = await findOutdated(saveDir, keep, basename(this.#lastWritten as string));
      await removeSnapshots(saveDir, outdated);
      if (outdated.length > 0) telemetry.log.info(`removed, as --keep is ${keep}: ${outdated.join(", ")}`);
    } catch (error) {
      telemetry.log.warn(`older snapshots stay, as they could not be removed: ${(error as Error).message}`);
    }
  }

  #describe(error: unknown): unknown {
    if (!(error instanceof NextvladError) || error.code === "NOT_FINITE") return error;
    const whole = this.#lastWritten;
    const isThere = whole !== null && existsSync(whole);
    const onward = isThere ? `the last whole snapshot is ${whole}` : "there is no earlier snapshot";
    const { remedy, ...details } = error.details;
    const advice = remedy === undefined ? onward : `${remedy}; ${onward}`;
    return new NextvladError(error.code, `a snapshot failed twice: ${error.what}`, { ...details, remedy: advice }, error);
  }
}

const placeOf = ({ step, epoch, step_in_epoch }: RunState): string => `${step} ${epoch} ${step_in_epoch}`;
