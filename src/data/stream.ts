import { setImmediate } from "node:timers/promises";
import { deserializeError } from "../base/errors.js";
import { SLOW_MS } from "../base/waiting.js";
import { AsyncQueue } from "./async-queue.js";
import type { BatchEvent, BatchReply, BatchRequest } from "./batch-worker.js";
import { type BatchMemory, memoryOf } from "./batches.js";
import type { SkippedRecord } from "./corrupt-records.js";
import type { StreamOptions } from "./epoch-videos.js";
import type { OpenShard } from "./reader-pool.js";
import { type Stall, StallWatch } from "./stall-watch.js";
import type { RaggedBatch } from "./video.js";
import { startWorker, type WorkerThread, workerExitError } from "./worker-thread.js";

export type { StreamOptions } from "./epoch-videos.js";

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
  /** Bytes of TFRecord files that were read so far, headers included; 0 for shards that are in memory since an earlier epoch. */
  readonly bytesRead: number;
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
  readonly onSkipped?: (skipped: readonly SkippedRecord[]) => void;
  /** Called with the paths of shards that were opened, with the next batch or the end. */
  readonly onOpened?: (paths: readonly string[]) => void;
  /** Called if no batch has arrived for 1 minute, and again after 2, 4 and so on, at least hourly. */
  readonly onStall?: (stall: Stall) => void;
}

/**
 * Starts reading an epoch. Threads read, order and join videos ahead of the caller, which receives whole batches without copying them. The threads are kept for
 * the process's next stream.
 * The order is a pure function of the options except `readers`, and of the contents of the shards. The iteration throws a shard's error at its place in the
 * order (NOT_TFRECORD, CORRUPT_RECORD, BAD_FORMAT, UNSAFE_PICKLE, BAD_VIDEO, BAD_LABELS, FILE_MISSING, FILE_UNREADABLE), TOO_FEW_VIDEOS, WORKER_DIED, and
 * BAD_SNAPSHOT or BAD_RESULTS if `skipBatches` is too large.
 */
export function openStream(options: StreamOptions, events: StreamEvents = {}, stallMs = SLOW_MS): BatchStream {
  const thread = startEpoch(options, (shards) => stalls.onReply(shards));
  const stalls = new StallWatch(stallMs, thread.requestOpenShards, (stall) => events.onStall?.(stall));
  const { events: queue } = thread;
  for (let credit = 0; credit < BATCHES_AHEAD; credit++) thread.giveCredit(null);
  let fraction = 0;
  let bytesRead = 0;
  let waitedMs = 0;
  let closing: Promise<void> | undefined;

  const close = (): Promise<void> => {
    closing ??= thread.finish();
    // Unblocks pending reads.
    queue.put({ type: "end", skipped: [], opened: [], bytesRead });
    return closing;
  };

  async function* iterate(): AsyncGenerator<RaggedBatch, void> {
    try {
      while (closing === undefined) {
        const since = performance.now();
        stalls.begin();
        const reply = await queue.take().finally(() => stalls.end());
        // Node delivers all queued messages, with their promise callbacks, in one turn of the event loop. Signals are handled only after it yields.
        await setImmediate();
        waitedMs += performance.now() - since;
        if (closing !== undefined) return;
        bytesRead = reply.bytesRead;
        if (reply.skipped.length > 0) events.onSkipped?.(reply.skipped);
        if (reply.opened.length > 0) events.onOpened?.(reply.opened);
        if (reply.type === "error") throw deserializeError(reply.error);
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
    get bytesRead() {
      return bytesRead;
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

/** The thread that assembles batches, with its reader threads, during one epoch. The threads are reused for later epochs. */
interface BatchThread {
  /** Receives the epoch's events; fails with WORKER_DIED. */
  readonly events: AsyncQueue<BatchEvent>;
  /** Lets the thread send one more batch, and returns the memory of a used batch to it. */
  giveCredit(memory: BatchMemory | null): void;
  requestOpenShards(): void;
  /** Ends the epoch at any point: closes its files, and keeps the threads for the next epoch. */
  finish(): Promise<void>;
}

const BATCH_MODULE = new URL("./batch-worker.js", import.meta.url);

/** Time a thread has to close its files before it is stopped instead. */
const FINISH_TIMEOUT_MS = 2000;

/** A thread that waits for its next epoch. Starting it and its readers takes about 100 ms, and then another 100 ms of both cores. */
let idle: BatchWorker | null = null;

/** A thread, and the state of its current epoch. */
interface BatchWorker {
  readonly thread: WorkerThread<BatchRequest>;
  events: AsyncQueue<BatchEvent>;
  /** Receives the reply to a request for the open shards. */
  onOpenShards: (shards: readonly OpenShard[]) => void;
  finished: AsyncQueue<void>;
  hasExited: boolean;
}

/** Starts the batch thread of the next stream in the background. Saves time if the caller has other work to do until then. */
export function prepareBatches(): void {
  if (idle !== null) return;
  idle = startBatchWorker();
  idle.thread.unref();
}

/** Like `prepareBatches`, and also starts `readers` threads for the shards, unless there are threads of an earlier stream. */
export function prepareReading(readers: number): void {
  prepareBatches();
  idle?.thread.post({ type: "prepare", readers });
}

/** Starts an epoch, in the idle thread of an earlier epoch if there is one. */
function startEpoch(options: StreamOptions, onOpenShards: (shards: readonly OpenShard[]) => void): BatchThread {
  const worker = idle ?? startBatchWorker();
  idle = null;
  worker.onOpenShards = onOpenShards;
  worker.events = new AsyncQueue();
  worker.finished = new AsyncQueue();
  const { thread, events } = worker;
  thread.ref();
  thread.post({ type: "start", options });
  let isOver = false;
  return {
    events,
    giveCredit(memory) {
      // The thread may already work on another epoch.
      if (!isOver) thread.post({ type: "credit", memory }, memory ?? []);
    },
    requestOpenShards: () => thread.post({ type: "open-shards" }),
    finish() {
      isOver = true;
      return finish(worker);
    },
  };
}

function startBatchWorker(): BatchWorker {
  const thread = startWorker<BatchRequest, BatchReply>(BATCH_MODULE, undefined, {
    onMessage(reply) {
      if (reply.type === "finished") worker.finished.put();
      else if (reply.type === "open-shards") worker.onOpenShards(reply.shards);
      else worker.events.put(reply);
    },
    onExit(exit) {
      const error = workerExitError("the batch thread", exit, [], "run again with a smaller shuffle_buffer or batch_size");
      worker.hasExited = true;
      if (idle === worker) idle = null;
      worker.events.fail(error);
      worker.finished.fail(error);
    },
  });
  const worker: BatchWorker = {
    thread,
    events: new AsyncQueue(),
    onOpenShards: () => undefined,
    finished: new AsyncQueue(),
    hasExited: false,
  };
  return worker;
}

async function finish(worker: BatchWorker): Promise<void> {
  worker.thread.post({ type: "finish" });
  const timer = setTimeout(() => worker.finished.fail(new Error("the files were not closed in time")), FINISH_TIMEOUT_MS);
  const isFree = await worker.finished.take().then(
    () => true,
    () => false,
  );
  clearTimeout(timer);
  if (isFree && !worker.hasExited && idle === null) {
    idle = worker;
    worker.thread.unref();
  } else if (!worker.hasExited) await worker.thread.stop();
}
