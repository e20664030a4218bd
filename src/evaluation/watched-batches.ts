import { adviseSkipping } from "../data/corrupt-records.js";
import { describeStall } from "../data/stall-watch.js";
import { type BatchStream, closeOnAbort, type StreamEvents } from "../data/stream.js";
import type { RaggedBatch } from "../data/video.js";
import { Pace } from "../telemetry/progress.js";
import type { Telemetry } from "../telemetry/telemetry.js";
import type { DamageReport } from "./damage-report.js";

/** How often a pass logs: every `steps` batches (0: never), or every `ms` milliseconds. */
export type LogInterval = { readonly steps: number } | { readonly ms: number };

/** How a pass over videos is reported and stopped. */
export interface Watch {
  readonly title: string;
  readonly logInterval: LogInterval;
  readonly signal: AbortSignal;
  readonly telemetry: Telemetry;
  /** Batches that an earlier run did, which the stream skips, and their share of its bytes (0..1). */
  readonly done?: { readonly batches: number; readonly fraction: number };
  readonly damage: DamageReport;
}

/** Forwards a stream's skipped-record and stall events to the log. */
export function tellEvents(damage: DamageReport, { log }: Telemetry): StreamEvents {
  return {
    onSkipped: (skipped) => damage.note(skipped),
    onStall: (stall) => log.warn({ waited_ms: stall.waitedMs, shards: stall.shards }, describeStall(stall)),
  };
}

/**
 * Yields a stream's batches and, after each, updates the progress bar and, when due, logs `describe(step)` (step from 0). Ends early at the signal, and closes
 * the stream. Adds to errors about corrupt data how to skip it.
 */
export async function* watchBatches(
  stream: BatchStream,
  { title, logInterval, signal, telemetry, damage, done = { batches: 0, fraction: 0 } }: Watch,
  describe: (step: number) => string,
): AsyncGenerator<RaggedBatch, void> {
  const pace = new Pace(stream, undefined, done.fraction);
  let step = done.batches;
  let loggedMs = performance.now();
  const isDue = (): boolean =>
    "steps" in logInterval ? logInterval.steps > 0 && step % logInterval.steps === 0 : performance.now() - loggedMs >= logInterval.ms;
  const release = closeOnAbort(stream, signal);
  telemetry.progress.start(title);
  try {
    for await (const batch of stream) {
      yield batch;
      pace.count(batch.ids.length);
      telemetry.progress.update(pace.state());
      if (isDue()) {
        telemetry.log.info(pace.facts(), `${describe(step)}, ${pace.describe()}`);
        loggedMs = performance.now();
      }
      step++;
    }
  } catch (error) {
    throw adviseSkipping(error);
  } finally {
    telemetry.progress.end();
    release();
    await stream.close();
    await damage.conclude(title);
  }
}
