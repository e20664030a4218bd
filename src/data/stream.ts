import { setImmediate } from "node:timers/promises";
import { deserialiseError } from "../base/errors.js";
import type { BatchReply, ReadingReply } from "./batch-worker.js";
import type { StreamOptions } from "./batches.js";
import type { LeftOut } from "./damage-sieve.js";
import { Inbox } from "./inbox.js";
import { STALL_MS, type Stall, StallWatch } from "./stall.js";
import { CREDIT, deathError, INQUIRY, startThread } from "./thread.js";
import type { RaggedBatch } from "./video.js";

export type { StreamOptions } from "./batches.js";

/** Batches that may lie ready in the caller's thread; the batch thread holds one more, and the readers' queues what follows. */
const BATCHES_AHEAD = 2;

/** An epoch's batches, to be iterated once. Leaving the loop closes it. */
export interface BatchStream extends AsyncIterable<RaggedBatch> {
  /** The share of the epoch's bytes that the batches given out so far stand for, 0..1. */
  readonly fraction: number;
  /** Whether all batches were given out; a stream that was closed before is not complete. */
  readonly complete: boolean;
  /** Milliseconds for which the caller waited for batches. */
  readonly waitedMs: number;
  /** Ends the threads and closes their files. May be called at any time, and again. */
  close(): Promise<void>;
}

/** What a stream tells besides its batches. */
export interface StreamEvents {
  /** What was left out of the data, told before the batch that follows it in the order, or before the end. */
  readonly onLeftOut?: (parts: readonly LeftOut[]) => void;
  /** No batch has come for a minute, two, four, and so on. */
  readonly onStall?: (stall: Stall) => void;
}

const BATCH_MODULE = new URL("./batch-worker.js", import.meta.url);

/**
 * Starts reading an epoch: threads read, order and join videos ahead of the caller, who gets whole batches without copying them.
 * The order is a pure function of seed, epoch and the list of shards. The iteration throws what befalls a shard at its place in the order
 * (NOT_TFRECORD, CORRUPT_RECORD, BAD_FORMAT, BAD_VIDEO, BAD_LABELS, FILE_MISSING, FILE_UNREADABLE), TOO_FEW_VIDEOS and WORKER_DIED.
 */
export function openStream(options: StreamOptions, events: StreamEvents = {}, stallMs = STALL_MS): BatchStream {
  const inbox = new Inbox<BatchReply>();
  const thread = startThread<typeof CREDIT | typeof INQUIRY, BatchReply | ReadingReply>(BATCH_MODULE, options, {
    message: (reply) => (reply.type === "reading" ? stalls.answer(reply.shards) : inbox.put(reply)),
    died: (how) =>
      inbox.fail(deathError("the thread that makes batches", how, [], "run again with a smaller shuffle_buffer or batch_size")),
  });
  const stalls = new StallWatch(
    stallMs,
    () => thread.post(INQUIRY),
    (stall) => events.onStall?.(stall),
  );
  for (let credit = 0; credit < BATCHES_AHEAD; credit++) thread.post(CREDIT);
  let fraction = 0;
  let waitedMs = 0;
  let closing: Promise<void> | undefined;

  const close = (): Promise<void> => {
    closing ??= thread.stop();
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
        thread.post(CREDIT);
        fraction = reply.step.fraction;
        yield reply.step.batch;
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
