import type { BatchMemory } from "./batch-builder.js";
import type { BatchEvent, BatchReply, BatchRequest } from "./batch-worker.js";
import type { StreamOptions } from "./batches.js";
import { Inbox } from "./inbox.js";
import type { OpenShard } from "./reader-pool.js";
import { deathError, startThread, type Thread } from "./thread.js";

/** The thread that assembles batches, with its reading threads, during one epoch. The threads are reused for later epochs. */
export interface BatchThread {
  /** Receives the epoch's events; fails with WORKER_DIED. */
  readonly inbox: Inbox<BatchEvent>;
  /** Lets the thread send one more batch, and returns the memory of a used batch to it. */
  giveCredit(memory: BatchMemory | null): void;
  /** Requests the list of open shards. */
  inquire(): void;
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
  readonly thread: Thread<BatchRequest>;
  inbox: Inbox<BatchEvent>;
  /** Receives the answer to an inquiry. */
  onReading: (shards: readonly OpenShard[]) => void;
  finished: Inbox<void>;
  dead: boolean;
}

/** Starts the batch thread and its `readers` reading threads for the next epoch. Saves time if the caller has other work to do until then. */
export function prepareBatches(readers: number): void {
  if (idle !== null) return;
  idle = startWorker();
  idle.thread.post({ type: "prepare", readers });
  idle.thread.release();
}

/** Starts an epoch, in the idle thread of an earlier epoch if there is one. */
export function startBatches(options: StreamOptions, onReading: (shards: readonly OpenShard[]) => void): BatchThread {
  const worker = idle ?? startWorker();
  idle = null;
  worker.onReading = onReading;
  worker.inbox = new Inbox();
  worker.finished = new Inbox();
  const { thread, inbox } = worker;
  thread.hold();
  thread.post({ type: "start", options });
  let over = false;
  return {
    inbox,
    giveCredit(memory) {
      // The thread may already be at another epoch.
      if (!over) thread.post({ type: "credit", memory }, memory ?? []);
    },
    inquire: () => thread.post({ type: "inquire" }),
    finish() {
      over = true;
      return finish(worker);
    },
  };
}

function startWorker(): BatchWorker {
  const thread = startThread<BatchRequest, BatchReply>(BATCH_MODULE, undefined, {
    message(reply) {
      if (reply.type === "finished") worker.finished.put();
      else if (reply.type === "reading") worker.onReading(reply.shards);
      else worker.inbox.put(reply);
    },
    died(how) {
      const error = deathError("the thread that makes batches", how, [], "run again with a smaller shuffle_buffer or batch_size");
      worker.dead = true;
      if (idle === worker) idle = null;
      worker.inbox.fail(error);
      worker.finished.fail(error);
    },
  });
  const worker: BatchWorker = { thread, inbox: new Inbox(), onReading: () => undefined, finished: new Inbox(), dead: false };
  return worker;
}

async function finish(worker: BatchWorker): Promise<void> {
  worker.thread.post({ type: "finish" });
  const timer = setTimeout(() => worker.finished.fail(new Error("the files could not be closed in time")), FINISH_TIMEOUT_MS);
  const isFree = await worker.finished.take().then(
    () => true,
    () => false,
  );
  clearTimeout(timer);
  if (isFree && !worker.dead && idle === null) {
    idle = worker;
    worker.thread.release();
  } else if (!worker.dead) await worker.thread.stop();
}
