import { setImmediate } from "node:timers/promises";
import { deserialiseError } from "../base/errors.js";
import { SLOW_MS } from "../base/slow-watch.js";
import { memoryOf } from "./batch-builder.js";
import { prepareBatches, startBatches } from "./batch-thread.js";
import type { StreamOptions } from "./batches.js";
import type { LeftOut } from "./damage-sieve.js";
import { type Stall, StallWatch } from "./stall.js";
import type { RaggedBatch } from "./video.js";

export type { StreamOptions } from "./batches.js";

/** Batches that may be in the caller's thread, the one at hand and those that lie ready; the batch thread holds one more, and the readers' queues what follows. */
const BATCHES_AHEAD = 3;

/**
 * An epoch's batches, to be iterated once. Leaving the loop closes it. A batch's features are good until the next one is asked for, which takes their memory
 * back: they have no bytes then.
 */
export interface BatchStream extends AsyncIterable<RaggedBatch> {
  /** The share of the epoch's bytes that the batches given out so far stand for, 0..1. */
  readonly fraction: number;
  /** Whether all batches were given out; a stream that was closed before is not complete. */
  readonly complete: boolean;
  /** Milliseconds for which the caller waited for batches. */
  readonly waitedMs: number;
  /** Ends reading and closes all files. May be called at any time, and again. */
  close(): Promise<void>;
}

/** What a stream tells besides its batches. */
export interface StreamEvents {
  /** What was left out of the data, told before the batch that follows it in the order, or before the end. */
  readonly onLeftOut?: (parts: readonly LeftOut[]) => void;
  /** No batch has come for a minute, two, four, and so on. */
  readonly onStall?: (stall: Stall) => void;
}

/** Starts the threads that the next stream reads with, `readers` of them for the shards, beside whatever else there is to do until it is opened. */
export const prepareReading = prepareBatches;

/**
 * Starts reading an epoch: threads read, order and join videos ahead of the caller, who gets whole batches without copying them. The threads stay for the
 * process's next stream.
 * The order is a pure function of seed, epoch, the list of shards and what they hold. The iteration throws what befalls a shard at its place in the order
 * (NOT_TFRECORD, CORRUPT_RECORD, BAD_FORMAT, BAD_VIDEO, BAD_LABELS, FILE_MISSING, FILE_UNREADABLE), TOO_FEW_VIDEOS and WORKER_DIED.
 */
export function openStream(options: StreamOptions, events: StreamEvents = {}, stallMs = SLOW_MS): BatchStream {
  const thread = startBatches(options, (shards) => stalls.answer(shards));
  const stalls = new StallWatch(stallMs, thread.inquire, (stall) => events.onStall?.(stall));
  const { inbox } = thread;
  for (let credit = 0; credit < BATCHES_AHEAD; credit++) thread.giveCredit(null);
  let fraction = 0;
  let waitedMs = 0;
  let closing: Promise<void> | undefined;

  const close = (): Promise<void> => {
    closing ??= thread.finish();
    // Whoever waits for a batch now waits in vain.
    inbox.put({ type: "end", leftOut: [] });
    return closing;
  };

  async function* iterate(): AsyncGenerator<RaggedBatch, void> {
    try {
      while (closing === undefined) {
        const since = performance.now();
        stalls.begin();
        const reply = await inbox.take().finally(() => stalls.end());
        // Node hands out waiting messages in one go, each with its promises' work: signals wait until someone lets the event loop turn.
        await setImmediate();
        waitedMs += performance.now() - since;
        if (closing !== undefined) return;
        if (reply.leftOut.length > 0) events.onLeftOut?.(reply.leftOut);
        if (reply.type === "error") throw deserialiseError(reply.error);
        if (reply.type === "end") {
          fraction = 1;
          return;
        }
        fraction = reply.step.fraction;
        yield reply.step.batch;
        thread.giveCredit(memoryOf(reply.step.batch));
      }
    } finally {
      await close();
    }
  }

  const batches = iterate();
  return {
    get fraction() {
      return fraction;
    },
    get complete() {
      return fraction === 1;
    },
    get waitedMs() {
      return waitedMs;
    },
    close,
    [Symbol.asyncIterator]: () => batches,
  };
}

/** Closes the stream when the signal comes, so that nobody waits for data any longer; returns what ends the watch. */
export function closeOnAbort(stream: BatchStream, signal: AbortSignal): () => void {
  const close = (): void => void stream.close();
  if (signal.aborted) close();
  signal.addEventListener("abort", close, { once: true });
  return () => signal.removeEventListener("abort", close);
}
