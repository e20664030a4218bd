import type { Worker } from "node:worker_threads";
import { NextvladError } from "./errors.js";
import { escapeLine } from "./shown-value.js";

/** A wait for an input is reported after this long. */
const ANNOUNCE_MS = 800;
/** After a stop signal, a read that still has no answer after this long is abandoned. */
const STUCK_MS = 2000;

/** How a command is stopped. */
export interface StopRequest {
  /** Aborted by the first stop signal. */
  readonly signal: AbortSignal;
  /** 130, 143 or 129 after a stop signal. */
  exitCode(): number;
}

let stop: StopRequest | null = null;
let report = (line: string): void => void process.stderr.write(`${escapeLine(`note: ${line}`)}\n`);

/** Sets the stop request that ends waits; null if signals have their default effect. A process runs one command at a time. */
export function setStopRequest(request: StopRequest | null): void {
  stop = request;
}

/** Sets `write` as the function that reports long waits; returns a function that restores the previous one. */
export function reportWaits(write: (line: string) => void): () => void {
  const previous = report;
  report = write;
  return () => {
    report = previous;
  };
}

/**
 * Waits for `work`. After a stop signal, work that does not end within `stuckMs` is abandoned: throws STOPPED. `what` completes "waiting for".
 * In worker threads, and outside of commands that save at a signal, it only waits.
 */
export function untilStopped<T>(what: string, work: Promise<T>, stuckMs = STUCK_MS): Promise<T> {
  const request = stop;
  if (request === null) return work;
  const { signal } = request;
  return new Promise<T>((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    const abandonSoon = (): void => {
      timer = setTimeout(() => reject(stoppedError(what, request.exitCode())), stuckMs);
    };
    if (signal.aborted) abandonSoon();
    else signal.addEventListener("abort", abandonSoon, { once: true });
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abandonSoon);
    };
    work.finally(end).then(resolve, reject);
  });
}

function stoppedError(what: string, exitCode: number): NextvladError {
  return new NextvladError("STOPPED", `stopped by a signal while waiting for ${what}`, { exitCode });
}

/** `untilStopped` for another program or a disk: reports the wait within a second, after a minute, and then with exponential back-off. */
export async function reportedWait<T>(what: string, work: Promise<T>, stuckMs = STUCK_MS): Promise<T> {
  let isOver = false;
  const announce = (): void => {
    if (!isOver) report(`waiting for ${what}`);
  };
  // The event loop may be late: a result that is already available is processed before the report.
  const first = setTimeout(() => setImmediate(announce), ANNOUNCE_MS);
  const watch = new SlowWatch((waitedMs) => report(`still waiting for ${what}, for ${formatSeconds(waitedMs)}`), SLOW_MS);
  watch.start();
  try {
    return await untilStopped(what, work, stuckMs);
  } finally {
    isOver = true;
    clearTimeout(first);
    watch.stop();
  }
}

/** Default time after which `SlowWatch` warns; the operations in question normally take seconds. */
export const SLOW_MS = 60_000;
/** Maximum time between two warnings. */
const MAX_PAUSE_MS = 3_600_000;

/** Warns about slow waits, one at a time, with exponential back-off: after `afterMs`, then each time the wait has doubled, and at least every hour. */
export class SlowWatch {
  readonly #warn: (waitedMs: number) => void;
  readonly #afterMs: number;
  #timer: NodeJS.Timeout | undefined;
  #startMs = 0;

  constructor(warn: (waitedMs: number) => void, afterMs = SLOW_MS) {
    this.#warn = warn;
    this.#afterMs = afterMs;
  }

  /** Starts a wait, and stops the previous one. */
  start(): void {
    this.stop();
    this.#startMs = performance.now();
    this.#arm(this.#afterMs, this.#afterMs);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  /** Warns in `pauseMs`, when the wait has lasted `waitedMs`, and then again. */
  #arm(pauseMs: number, waitedMs: number): void {
    this.#timer = setTimeout(() => {
      this.#warn(performance.now() - this.#startMs);
      const nextMs = Math.min(waitedMs, MAX_PAUSE_MS);
      this.#arm(nextMs, waitedMs + nextMs);
    }, pauseMs);
  }
}

/** Formats the warning about a wait for the disk that may never end. `what` is like "no data from shard.tfrecord". */
export function describeWait(what: string, waitedMs: number): string {
  return `${what} for ${formatSeconds(waitedMs)}. ${DISK_QUESTION}`;
}

export const DISK_QUESTION = "Is the disk or network file system responding?";

export function formatSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
}

/** Threads of this process that have not exited yet. */
const running = new Set<Worker>();

/** Counts a thread as running until it exits. A blocked read may keep it in the kernel, even when it is terminated. */
export function trackThread(worker: Worker): void {
  running.add(worker);
  worker.on("exit", () => running.delete(worker));
}

export function hasRunningThreads(): boolean {
  return running.size > 0;
}

/** Terminates all threads. One that is blocked in a read exits only when the read returns. */
export function terminateThreads(): void {
  for (const worker of running) void worker.terminate();
}
