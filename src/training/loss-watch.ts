import { join } from "node:path";
import type { Logger } from "pino";
import { escapeBytes } from "../base/byte-text.js";
import { NextvladError } from "../base/errors.js";
import type { RunState } from "../checkpoints/snapshot.js";
import type { Config } from "../config/schema.js";
import { IncidentList, shouldLog } from "../telemetry/incident-list.js";

/** Name of the file that lists batches with a non-finite or unchecked loss. */
export const NAN_BATCHES_NAME = "nan_batches.json";

/** Maximum number of suspect batches in the list: the newest since the last finite loss. A larger --log-interval, or 0, allows more of them. */
const MAX_SUSPECTS = 1000;
/** Number of consecutive skipped batches at which the weights are assumed to be the cause. */
const MAX_CONSECUTIVE = 10;

/** A batch whose loss was non-finite, or was not checked. */
interface SuspectBatch {
  /** Step of the run, from 0. */
  readonly step: number;
  readonly epoch: number;
  readonly step_in_epoch: number;
  /** "NaN", "Infinity" or "-Infinity" as text, because JSON has no such numbers; null if the loss was not read. */
  readonly loss: string | null;
  readonly videos: readonly string[];
}

type Position = Pick<RunState, "step" | "epoch" | "step_in_epoch">;

/**
 * Watches for a non-finite loss in training. "stop": checks the loss only at steps that are logged, because reading it synchronizes with the device; all
 * batches since the last finite loss are suspects. "skip-batch": checks every step, before the batch changes the model.
 */
export class LossWatch {
  readonly #policy: Config["TRAIN"]["on_nan"];
  readonly #log: Logger;
  readonly #list: IncidentList<SuspectBatch>;
  #suspects: SuspectBatch[] = [];
  #consecutive = 0;
  #skipped = 0;

  constructor(policy: Config["TRAIN"]["on_nan"], saveDir: string, log: Logger) {
    this.#policy = policy;
    this.#log = log;
    this.#list = new IncidentList(join(saveDir, NAN_BATCHES_NAME), log);
  }

  /** Loads the list of the resumed run, or removes that of another run. */
  start(isResumed: boolean): Promise<void> {
    return this.#list.start(isResumed);
  }

  /** Returns the `acceptLoss` of a step, which throws NOT_FINITE if too many consecutive batches were skipped; undefined with "stop". */
  acceptor(videos: readonly string[], position: Position): ((loss: number) => boolean) | undefined {
    if (this.#policy === "stop") return undefined;
    return (loss) => {
      if (Number.isFinite(loss)) {
        this.#consecutive = 0;
        return true;
      }
      this.#skip(suspect(videos, position, loss));
      return false;
    };
  }

  #skip(batch: SuspectBatch): void {
    this.#list.add(batch);
    this.#consecutive++;
    this.#skipped++;
    const finding = `the loss of step ${batch.step} (epoch ${batch.epoch}) is ${batch.loss}`;
    if (this.#consecutive >= MAX_CONSECUTIVE) {
      throw new NextvladError("NOT_FINITE", `${finding}, as in the ${MAX_CONSECUTIVE - 1} steps before: the weights have diverged`);
    }
    if (shouldLog(this.#skipped)) this.#log.warn({ ...batch, videos: batch.videos.length }, `skipped a batch: ${finding}`);
  }

  /** Records a finished step, and its loss if it was read (else null). Throws NOT_FINITE if the policy is "stop" and the loss is non-finite. */
  record(videos: readonly string[], position: Position, loss: number | null): void {
    if (this.#policy === "skip-batch") return;
    if (loss !== null && Number.isFinite(loss)) {
      this.#suspects = [];
      return;
    }
    this.#suspects.push(suspect(videos, position, loss));
    if (this.#suspects.length > MAX_SUSPECTS) this.#suspects.shift();
    if (loss === null) return;
    throw new NextvladError("NOT_FINITE", `the loss of step ${position.step} (epoch ${position.epoch}) is ${loss}`);
  }

  /** Writes the list if it has changed. */
  flush(): Promise<void> {
    return this.#list.write();
  }

  /** Rate-limited `flush`, so that not every step waits for the disk. */
  flushAtIntervals(): Promise<void> {
    return this.#list.writeAtIntervals();
  }

  /** Logs the number of batches that were skipped in an epoch, if any. */
  endEpoch(epoch: number): void {
    if (this.#skipped === 0) return;
    const batches = `${this.#skipped} ${this.#skipped === 1 ? "batch" : "batches"}`;
    this.#log.warn(
      { skipped_batches: this.#skipped },
      `epoch ${epoch}: skipped ${batches} with a non-finite loss, listed in ${this.#list.path}`,
    );
    this.#skipped = 0;
  }

  /** Lists the suspect batches of a run that ended with NOT_FINITE. Returns the error with the list's path and how to resume from `lastSnapshot`. */
  async explain({ what, details }: NextvladError, lastSnapshot: string | null): Promise<NextvladError> {
    for (const batch of this.#suspects) this.#list.add(batch);
    await this.flush();
    const from = lastSnapshot === null ? "start again" : `resume from the last valid snapshot (--resume ${lastSnapshot})`;
    const listed = this.#list.size > 0 ? `; the suspect batches are listed in ${this.#list.path}` : "";
    const skip = this.#policy === "stop" ? ", or --on-nan skip-batch if single batches are the cause" : "";
    const remedy = `${from} with a lower --learning-rate or with TRAIN.gradient_clip${skip}${listed}`;
    return new NextvladError("NOT_FINITE", what, { ...details, remedy });
  }
}

function suspect(videos: readonly string[], { step, epoch, step_in_epoch }: Position, loss: number | null): SuspectBatch {
  return { step, epoch, step_in_epoch, loss: loss === null ? null : String(loss), videos: videos.map(escapeBytes) };
}
