import { join } from "node:path";
import type { Logger } from "pino";
import { escapeBytes } from "../base/byte-text.js";
import { NextvladError } from "../base/errors.js";
import type { RunState } from "../checkpoints/snapshot.js";
import type { Config } from "../config/schema.js";
import { IncidentList, shouldLog } from "../telemetry/incident-list.js";

/** Name of the file that lists batches with a non-finite or unchecked loss. */
export const NAN_BATCHES_NAME = "nan_batches.json";

/** Maximum number of suspect batches, the newest ones. There may be more since the last finite loss if --log-interval is larger than this, or 0. */
const KEPT_BATCHES = 1000;
/** Number of consecutive skipped batches at which the weights are assumed to be the cause. */
const MOST_IN_A_ROW = 10;

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

type Place = Pick<RunState, "step" | "epoch" | "step_in_epoch">;

/**
 * Watches for a non-finite loss in training. "stop": checks the loss only at steps that are logged, because reading it synchronizes with the device; all
 * batches since the last finite loss are suspects. "skip-batch": checks every step, before the batch changes the model.
 */
export class LossWatch {
  readonly #policy: Config["TRAIN"]["on_nan"];
  readonly #log: Logger;
  readonly #list: IncidentList<SuspectBatch>;
  #suspects: SuspectBatch[] = [];
  #inARow = 0;
  #leftOut = 0;

  constructor(policy: Config["TRAIN"]["on_nan"], saveDir: string, log: Logger) {
    this.#policy = policy;
    this.#log = log;
    this.#list = new IncidentList(join(saveDir, NAN_BATCHES_NAME), log);
  }

  /** Loads the list of the resumed run (`goesOn`), or removes that of another run. */
  begin(goesOn: boolean): Promise<void> {
    return this.#list.start(goesOn);
  }

  /** Returns the `acceptLoss` of a step; undefined with "stop". It throws NOT_FINITE if too many consecutive batches were skipped. */
  acceptor(videos: readonly string[], place: Place): ((loss: number) => boolean) | undefined {
    if (this.#policy === "stop") return undefined;
    return (loss) => {
      if (Number.isFinite(loss)) {
        this.#inARow = 0;
        return true;
      }
      this.#leaveOut(suspect(videos, place, loss));
      return false;
    };
  }

  #leaveOut(batch: SuspectBatch): void {
    this.#list.add(batch);
    this.#inARow++;
    this.#leftOut++;
    const words = `the loss of step ${batch.step} (epoch ${batch.epoch}) is ${batch.loss}`;
    if (this.#inARow >= MOST_IN_A_ROW) {
      throw new NextvladError(
        "NOT_FINITE",
        `${words}, as were the ${MOST_IN_A_ROW - 1} before: the weights are to blame, and not the batches`,
      );
    }
    if (shouldLog(this.#leftOut)) this.#log.warn({ ...batch, videos: batch.videos.length }, `left out this batch: ${words}`);
  }

  /** Records a finished step, and its loss if it was read (else null). Throws NOT_FINITE if the policy is "stop" and the loss is non-finite. */
  note(videos: readonly string[], place: Place, loss: number | null): void {
    if (this.#policy === "skip-batch") return;
    if (loss !== null && Number.isFinite(loss)) {
      this.#suspects = [];
      return;
    }
    this.#suspects.push(suspect(videos, place, loss));
    if (this.#suspects.length > KEPT_BATCHES) this.#suspects.shift();
    if (loss === null) return;
    throw new NextvladError("NOT_FINITE", `the loss of step ${place.step} (epoch ${place.epoch}) is ${loss}`);
  }

  /** Writes the list if it has changed. */
  settle(): Promise<void> {
    return this.#list.write();
  }

  /** Rate-limited `settle`, so that not every step waits for the disk. */
  settleSparingly(): Promise<void> {
    return this.#list.writeAtIntervals();
  }

  /** Ends an epoch: logs the number of skipped batches, if any. */
  conclude(epoch: number): void {
    if (this.#leftOut === 0) return;
    const batches = `${this.#leftOut} ${this.#leftOut === 1 ? "batch" : "batches"}`;
    this.#log.warn(
      { left_out_batches: this.#leftOut },
      `epoch ${epoch}: left out ${batches} whose loss was no number, listed in ${this.#list.path}`,
    );
    this.#leftOut = 0;
  }

  /** Lists the suspect batches of a run that ended with NOT_FINITE, and returns the error with the list's path and how to resume from `lastSnapshot`. */
  async explain({ what, details }: NextvladError, lastSnapshot: string | null): Promise<NextvladError> {
    for (const batch of this.#suspects) this.#list.add(batch);
    await this.settle();
    const onward = lastSnapshot === null ? "start anew" : `go on from the last good snapshot, --resume ${lastSnapshot},`;
    const listed = this.#list.size > 0 ? `; the batches that may be to blame are listed in ${this.#list.path}` : "";
    const skip = this.#policy === "stop" ? ", or --on-nan skip-batch if single batches are to blame" : "";
    const remedy = `${onward} with a lower --learning-rate or with TRAIN.gradient_clip${skip}${listed}`;
    return new NextvladError("NOT_FINITE", what, { ...details, remedy });
  }
}

function suspect(videos: readonly string[], { step, epoch, step_in_epoch }: Place, loss: number | null): SuspectBatch {
  return { step, epoch, step_in_epoch, loss: loss === null ? null : String(loss), videos: videos.map(escapeBytes) };
}
