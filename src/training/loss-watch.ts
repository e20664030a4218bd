import { join } from "node:path";
import type { Logger } from "pino";
import { escapeBytes } from "../base/byte-text.js";
import { NextvladError } from "../base/errors.js";
import type { RunState } from "../checkpoints/snapshot.js";
import type { Config } from "../config/schema.js";
import { IncidentList } from "../telemetry/incident-list.js";
import { isWorthTelling } from "../telemetry/sparing.js";

/** The name of the list of batches that may be to blame. */
export const NAN_BATCHES_NAME = "nan_batches.json";

/** Batches kept to be listed, the newest ones: with a --log-interval above this, or 0, more may have come since the last good look. */
const KEPT_BATCHES = 1000;
/** Batches left out one after another, after which the weights are to blame. */
const MOST_IN_A_ROW = 10;

/** A batch whose loss was no number, or may have been. */
interface SuspectBatch {
  /** Of the run, from 0, and of the epoch. */
  readonly step: number;
  readonly epoch: number;
  readonly step_in_epoch: number;
  /** "NaN" or "Infinity", as JSON has no such numbers; null where nobody looked. */
  readonly loss: string | null;
  readonly videos: readonly string[];
}

type Place = Pick<RunState, "step" | "epoch" | "step_in_epoch">;

/**
 * Looks at the losses of a training. "stop": where a line of the log asks for the loss, which alone waits for the device; the batches since the last good
 * look are suspect then. "skip-batch": at each step, before the batch leaves a trace.
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

  /** Takes over the list of the run that is gone on with, or removes another run's. */
  begin(goesOn: boolean): Promise<void> {
    return this.#list.begin(goesOn);
  }

  /** What a step is to ask of its loss. Throws NOT_FINITE where too many batches in a row were left out. */
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
    if (isWorthTelling(this.#leftOut)) this.#log.warn({ ...batch, videos: batch.videos.length }, `left out this batch: ${words}`);
  }

  /** Notes a step that was taken, with its loss where somebody looked at it. Throws NOT_FINITE. */
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

  /** Brings the list up to date. */
  settle(): Promise<void> {
    return this.#list.write();
  }

  /** The same, where there is no hurry: a step does not wait for the disk each time. */
  settleSparingly(): Promise<void> {
    return this.#list.writeSparingly();
  }

  /** Ends an epoch: tells how many batches were left out, if any were. */
  conclude(epoch: number): void {
    if (this.#leftOut === 0) return;
    const batches = `${this.#leftOut} ${this.#leftOut === 1 ? "batch" : "batches"}`;
    this.#log.warn(
      { left_out_batches: this.#leftOut },
      `epoch ${epoch}: left out ${batches} whose loss was no number, listed in ${this.#list.path}`,
    );
    this.#leftOut = 0;
  }

  /** Lists the suspect batches of a run that ended with NOT_FINITE, and gives the error that says where, and how to go on from `lastSnapshot`. */
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
