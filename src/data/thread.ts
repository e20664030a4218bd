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
export interface Thread<In> {
  /** Sends a message. The buffers in `handedOver` are transferred instead of copied. */
  post(message: In, handedOver?: readonly ArrayBuffer[]): void;
  /** Keeps the process alive while the thread runs, which is the default. */
  hold(): void;
  /** Lets the process exit although the thread is still waiting for messages. */
  release(): void;
  /** Asks the thread to exit and waits until it has, or until a timeout if a read never returns. */
  stop(): Promise<void>;
}

export interface ThreadEvents<Out> {
  message(message: Out): void;
  /** Called if the thread exits without having been asked to; at most once. */
  died(death: ThreadDeath): void;
}

/** Why a thread exited. */
export interface ThreadDeath {
  readonly why: string;
  readonly cause: unknown;
}

/** Maximum number of files named in an error. */
const NAMED_FILES = 8;

/** Returns the WORKER_DIED error for a thread that exited unexpectedly. `thread` names it, as in "a data reading thread"; `files` are the files it had open. */
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

/** Starts a worker thread that runs a compiled module, with `data` as its workerData. */
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
