import { Worker } from "node:worker_threads";
import { NextvladError, RAISE_OPEN_FILES } from "../base/errors.js";
import { listFirst } from "../base/problem-list.js";
import { trackThread } from "../base/waiting.js";
import { releaseThread, shareRecordBudget } from "../formats/record-budget.js";

/** The message that asks a thread to close its files and end. */
export const STOP = "stop";

/** How long a thread has to end by itself: it needs the time of one read, which a dead network file system never finishes. */
const STOP_TIMEOUT_MS = 5000;
/** Even terminating a thread waits for a read that the system is in the midst of. What is to be saved must not wait with it. */
const TERMINATION_MS = 1000;

/** A worker thread that was started. */
export interface Thread<In> {
  /** Sends a message; the buffers go with it instead of being copied. */
  post(message: In, handedOver?: readonly ArrayBuffer[]): void;
  /** Keeps the process alive for it, as at the start. */
  hold(): void;
  /** Lets the process end although the thread still waits for messages. */
  release(): void;
  /** Asks it to end and waits until it has, or until it is plain that it cannot: what it reads never answers. */
  stop(): Promise<void>;
}

export interface ThreadEvents<Out> {
  message(message: Out): void;
  /** It ended without being asked to. Called once at most. */
  died(death: ThreadDeath): void;
}

/** How a thread ended. */
export interface ThreadDeath {
  readonly why: string;
  readonly cause: unknown;
}

/** Files that an error names one by one. */
const NAMED_FILES = 8;

/** The error for a thread that ended over its work: WORKER_DIED. `thread` says which, as "a data reading thread"; `files` are those that it had open. */
export function deathError(thread: string, { why, cause }: ThreadDeath, files: readonly string[], advice: string): NextvladError {
  const what = `${thread} ended: ${why}`;
  const remedy = /\bE[MN]FILE\b/.test(why) ? RAISE_OPEN_FILES : advice;
  const [file, ...others] = files;
  if (file === undefined) return new NextvladError("WORKER_DIED", what, { remedy }, cause);
  if (others.length === 0) return new NextvladError("WORKER_DIED", what, { file, remedy }, cause);
  return new NextvladError(
    "WORKER_DIED",
    `${what}, while it had these shards open: ${listFirst(files, { shown: NAMED_FILES })}`,
    { remedy },
    cause,
  );
}

/** Starts a thread on a compiled module beside the caller's, with `data` as its workerData. */
export function startThread<In, Out>(module: URL, data: unknown, events: ThreadEvents<Out>): Thread<In> {
  shareRecordBudget();
  const worker = new Worker(module, { workerData: data });
  const { threadId } = worker;
  trackThread(worker);
  let over = false;
  const die = (why: string, cause?: unknown): void => {
    if (over) return;
    over = true;
    events.died({ why, cause });
  };
  const exited = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
  worker.on("message", (message: Out) => events.message(message));
  worker.on("error", (error) => die(error.message, error));
  worker.on("exit", (code) => {
    releaseThread(threadId);
    die(`exit code ${code}`);
  });
  return {
    post: (message, handedOver = []) => worker.postMessage(message, handedOver),
    hold: () => worker.ref(),
    release: () => worker.unref(),
    async stop() {
      over = true;
      worker.postMessage(STOP);
      const timer = setTimeout(() => worker.terminate(), STOP_TIMEOUT_MS);
      let giveUp: NodeJS.Timeout | undefined;
      const givenUp = new Promise<void>((resolve) => {
        giveUp = setTimeout(resolve, STOP_TIMEOUT_MS + TERMINATION_MS);
      });
      await Promise.race([exited, givenUp]);
      clearTimeout(timer);
      clearTimeout(giveUp);
    },
  };
}
