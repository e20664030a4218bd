import type { Worker } from "node:worker_threads";
import { NextvladError } from "./errors.js";
import { escapeLine } from "./shown-value.js";
import { SLOW_MS, SlowWatch, showSeconds } from "./slow-watch.js";

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

/** `untilStopped` for an input: reports the wait within a second, after a minute, and then with exponential back-off. */
export async function waitForInput<T>(what: string, work: Promise<T>, stuckMs = STUCK_MS): Promise<T> {
  let isOver = false;
  const announce = (): void => {
    if (!isOver) report(`waiting for ${what}`);
  };
  // The event loop may be late: a result that is already available is processed before the report.
  const first = setTimeout(() => setImmediate(announce), ANNOUNCE_MS);
  const watch = new SlowWatch((waitedMs) => report(`still waiting for ${what}, for ${showSeconds(waitedMs)}`), SLOW_MS);
  watch.begin();
  try {
    return await untilStopped(what, work, stuckMs);
  } finally {
    isOver = true;
    clearTimeout(first);
    watch.end();
  }
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
