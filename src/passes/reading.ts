import { NextvladError } from "../base/errors.js";
import { type Interval, isDue } from "../base/interval.js";
import { showPath } from "../base/shown-value.js";
import type { Config } from "../config/schema.js";
import { adviseSkipping } from "../data/corrupt-records.js";
import { describeStall } from "../data/stall-watch.js";
import { type BatchStream, closeOnAbort, openStream, type StreamEvents, type StreamOptions } from "../data/stream.js";
import { type RaggedBatch, videoShape } from "../data/video.js";
import { ALONE, type World } from "../distributed/world.js";
import { Pace } from "../telemetry/progress.js";
import type { Telemetry } from "../telemetry/telemetry.js";
import type { SkippedRecordReport } from "./skipped-records.js";

/** What a sequential pass reads. */
export interface ReadOptions extends Pick<StreamOptions, "shards" | "batchSize" | "readers" | "onCorrupt" | "skipBatches" | "limitVideos"> {
  /** Determines the shape of the videos. */
  readonly model: Config["MODEL"];
  readonly labels: "required" | "optional";
  /** The ranks that read the batches in turn; by default, this process reads all. */
  readonly world?: World;
}

/**
 * Opens shards for one pass in list order, over all videos except those of the first `skipBatches` batches. The last batch may be smaller. Only the batches of this
 * rank have features.
 */
export function openReading({ model, labels, world = ALONE, ...options }: ReadOptions, events: StreamEvents = {}): BatchStream {
  // Rank 0 needs the IDs and labels of all videos.
  const share = { rank: world.rank, size: world.size, divides: "the batches", readsOwn: world.rank > 0 } as const;
  const sequential = { order: "sequential", seed: 0, epoch: 0, shuffleBuffer: 1, dropLast: false } as const;
  return openStream({ ...videoShape(model, labels), ...sequential, ...options, share }, events);
}

/** Forwards a stream's events to the log: skipped records, stalls and, with --verbose, the shards that are read, each once. */
export function forwardStreamEvents(skipped: SkippedRecordReport, { log }: Telemetry): StreamEvents {
  const seen = new Set<string>();
  const onOpened = (paths: readonly string[]): void => {
    for (const path of paths) if (!seen.has(path)) log.debug(`reading ${showPath(path)}`);
    for (const path of paths) seen.add(path);
  };
  return {
    onSkipped: (records) => skipped.add(records),
    ...(log.isLevelEnabled("debug") ? { onOpened } : {}),
    onStall: (stall) => log.warn({ waited_ms: stall.waitedMs, shards: stall.shards }, describeStall(stall)),
  };
}

/** How to report and stop a pass over videos. */
export interface PassOptions {
  readonly title: string;
  readonly logInterval: Interval;
  readonly signal: AbortSignal;
  readonly telemetry: Telemetry;
  /** Number of batches of an earlier run, which the stream skips, and their fraction of its bytes (0 to 1). */
  readonly done?: { readonly batches: number; readonly fraction: number };
  readonly skipped: SkippedRecordReport;
}

/**
 * Yields a stream's batches. After each, updates the progress bar and, every `logInterval`, logs `describe(step)` (step from 0). Ends early when the signal is
 * aborted, and closes the stream. Errors about corrupt data say how to skip it.
 */
export async function* watchBatches(
  stream: BatchStream,
  { title, logInterval, signal, telemetry, skipped, done = { batches: 0, fraction: 0 } }: PassOptions,
  describe: (step: number) => string,
): AsyncGenerator<RaggedBatch, void> {
  const pace = new Pace(stream, undefined, done.fraction);
  let step = done.batches;
  let loggedMs = performance.now();
  const stopListening = closeOnAbort(stream, signal);
  telemetry.progress.start(title);
  try {
    for await (const batch of stream) {
      yield batch;
      pace.count(batch.ids.length);
      telemetry.progress.update(pace.state());
      if (isDue(logInterval, step, performance.now() - loggedMs)) {
        telemetry.log.info(pace.facts(), `${describe(step)}, ${pace.describe()}`);
        loggedMs = performance.now();
      }
      step++;
    }
  } catch (error) {
    throw adviseSkipping(error);
  } finally {
    telemetry.progress.end();
    stopListening();
    await stream.close();
    await skipped.endPass(title);
  }
}

/** Returns the TOO_FEW_VIDEOS error for shards without valid videos, or without rated segments. */
export function noVideosError(filelist: string, what: "videos" | "rated segments" = "videos"): NextvladError {
  return new NextvladError("TOO_FEW_VIDEOS", `the shards contain no ${what}`, { file: filelist, remedy: `pass shards with ${what}` });
}
