import { Worker } from "node:worker_threads";
import { NextvladError, RAISE_OPEN_FILES } from "../base/errors.js";
import { listFirst } from "../base/problem-list.js";
import { trackThread } from "../base/waiting.js";
import { releaseThread, shareRecordBudget } from "../formats/containers/record-buffer.js";

/** Message that asks a thread to close its files and exit. */
export const STOP = "stop";

/** Time a thread has to exit by itself. It may have to finish a read, which never returns on a dead network file system. */
const STOP_TIMEOUT_MS = 5000;
/** Time after `terminate` until a thread is abandoned. Terminating also waits for a read in progress in the kernel, and this must not block saving. */
const TERMINATION_MS = 1000;

/** A worker thread that was started. */
export interface WorkerThread<In> {
  /** Sends a message. The buffers in `transferred` are transferred instead of copied. */
  post(message: In, transferred?: readonly ArrayBuffer[]): void;
  /** Keeps the process alive while the thread runs, which is the default. */
  ref(): void;
  /** Lets the process exit although the thread is still waiting for messages. */
  unref(): void;
  /** Asks the thread to exit and waits until it has, or until a timeout if a read never returns. */
  stop(): Promise<void>;
}

export interface WorkerEvents<Out> {
  onMessage(message: Out): void;
  /** Called if the thread exits without a call of `stop`; at most once. */
  onExit(exit: WorkerExit): void;
}

/** Why a thread exited. */
export interface WorkerExit {
  readonly why: string;
  readonly cause: unknown;
}

/** Maximum number of files named in an error. */
const NAMED_FILES = 8;

/** Returns the WORKER_DIED error for a thread that exited unexpectedly. `thread` names it, as in "a reader thread"; `files` are the files it had open. */
export function workerExitError(thread: string, { why, cause }: WorkerExit, files: readonly string[], advice: string): NextvladError {
  const what = `${thread} exited unexpectedly: ${why}`;
  const remedy = /\bE[MN]FILE\b/.test(why) ? RAISE_OPEN_FILES : advice;
  const [file, ...others] = files;
  if (file === undefined) return new NextvladError("WORKER_DIED", what, { remedy }, cause);
  if (others.length === 0) return new NextvladError("WORKER_DIED", what, { file, remedy }, cause);
  return new NextvladError(
    "WORKER_DIED",
    `${what}; it had these shards open: ${listFirst(files, { shown: NAMED_FILES })}`,
    { remedy },
    cause,
  );
}

/** Starts a worker thread that runs a compiled module, with `data` as its workerData. */
export function startWorker<In, Out>(module: URL, data: unknown, events: WorkerEvents<Out>): WorkerThread<In> {
  shareRecordBudget();
  const worker = new Worker(module, { workerData: data });
  const { threadId } = worker;
  trackThread(worker);
  let isOver = false;
  const exit = (why: string, cause?: unknown): void => {
    if (isOver) return;
    isOver = true;
    events.onExit({ why, cause });
  };
  const exited = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
  worker.on("message", (message: Out) => events.onMessage(message));
  worker.on("error", (error) => exit(error.message, error));
  worker.on("exit", (code) => {
    releaseThread(threadId);
    exit(`exit code ${code}`);
  });
  return {
    post: (message, transferred = []) => worker.postMessage(message, transferred),
    ref: () => worker.ref(),
    unref: () => worker.unref(),
    async stop() {
      isOver = true;
      worker.postMessage(STOP);
      const timer = setTimeout(() => worker.terminate(), STOP_TIMEOUT_MS);
      let abandonTimer: NodeJS.Timeout | undefined;
      const abandoned = new Promise<void>((resolve) => {
        abandonTimer = setTimeout(resolve, STOP_TIMEOUT_MS + TERMINATION_MS);
      });
      await Promise.race([exited, abandoned]);
      clearTimeout(timer);
      clearTimeout(abandonTimer);
    },
  };
}
