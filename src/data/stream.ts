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

/**
 * Batches that may be in the caller's thread: the current one and those that are ready. The batch thread holds one more, and the readers' queues hold the
 * blocks that follow.
 */
const BATCHES_AHEAD = 3;

/**
 * An epoch's batches, to be iterated once; leaving the loop closes the stream. A batch's features are valid until the next batch is requested, which transfers
 * their memory back and leaves the arrays empty.
 */
export interface BatchStream extends AsyncIterable<RaggedBatch> {
  /** Fraction of the epoch's bytes that the batches returned so far account for, 0..1. */
  readonly fraction: number;
  /** Whether all batches were returned; false if the stream was closed before. */
  readonly complete: boolean;
  /** Time for which the caller waited for batches, in milliseconds. */
  readonly waitedMs: number;
  /** Stops reading and closes all files. May be called at any time and more than once. */
  close(): Promise<void>;
}

/** Events of a stream besides its batches. */
export interface StreamEvents {
  /** Called with skipped records, before the batch that follows them in the order or before the end. */
  readonly onLeftOut?: (parts: readonly LeftOut[]) => void;
  /** Called if no batch has arrived for 1 minute, and again after 2, 4 and so on, at least hourly. */
  readonly onStall?: (stall: Stall) => void;
}

/** Starts the threads of the next stream in the background, with `readers` of them for the shards. */
export const prepareReading = prepareBatches;

/**
 * Starts reading an epoch. Threads read, order and join videos ahead of the caller, which receives whole batches without copying them. The threads are kept for
 * the process's next stream.
 * The order is a pure function of the options except `readers`, and of the contents of the shards. The iteration throws a shard's error at its place in the
 * order (NOT_TFRECORD, CORRUPT_RECORD, BAD_FORMAT, UNSAFE_PICKLE, BAD_VIDEO, BAD_LABELS, FILE_MISSING, FILE_UNREADABLE), TOO_FEW_VIDEOS, WORKER_DIED, and
 * BAD_SNAPSHOT or BAD_RESULTS if `skipBatches` is too large.
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
    // Unblocks pending reads.
    inbox.put({ type: "end", leftOut: [] });
    return closing;
  };

  async function* iterate(): AsyncGenerator<RaggedBatch, void> {
    try {
      while (closing === undefined) {
        const since = performance.now();
        stalls.begin();
        const reply = await inbox.take().finally(() => stalls.end());
        // Node delivers all queued messages, with their promise callbacks, in one turn of the event loop. Signals are handled only after it yields.
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

/** Closes the stream when the signal is aborted, which unblocks pending reads. Returns a function that removes the listener. */
export function closeOnAbort(stream: BatchStream, signal: AbortSignal): () => void {
  const close = (): void => void stream.close();
  if (signal.aborted) close();
  signal.addEventListener("abort", close, { once: true });
  return () => signal.removeEventListener("abort", close);
}
