import { Worker } from "node:worker_threads";
import { NextvladError } from "../base/errors.js";

/** The message that asks a thread to close its files and end. */
export const STOP = "stop";

/** How long a thread has to end by itself: it needs the time of one read, which a dead network file system never finishes. */
const STOP_TIMEOUT_MS = 5000;

/** A worker thread that was started. */
export interface Thread<In> {
  /** Sends a message; the buffers go with it instead of being copied. */
  post(message: In, handedOver?: readonly ArrayBuffer[]): void;
  /** Keeps the process alive for it, as at the start. */
  hold(): void;
  /** Lets the process end although the thread still waits for messages. */
  release(): void;
  /** Asks it to end and waits until it has. */
  stop(): Promise<void>;
}

export interface ThreadEvents<Out> {
  message(message: Out): void;
  /** It ended without being asked to. Called once at most, with WORKER_DIED. */
  died(error: NextvladError): void;
}

/** Starts a thread on a compiled module beside the caller's, with `data` as its workerData. */
export function startThread<In, Out>(module: URL, data: unknown, events: ThreadEvents<Out>): Thread<In> {
  const worker = new Worker(module, { workerData: data });
  let over = false;
  const die = (why: string, cause?: unknown): void => {
    if (over) return;
    over = true;
    const remedy = "run again with a smaller shuffle_buffer or batch_size if memory is short";
    events.died(new NextvladError("WORKER_DIED", `a data reading thread ended: ${why}`, { remedy }, cause));
  };
  const exited = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
  worker.on("message", (message: Out) => events.message(message));
  worker.on("error", (error) => die(error.message, error));
  worker.on("exit", (code) => die(`exit code ${code}`));
  return {
    post: (message, handedOver = []) => worker.postMessage(message, handedOver),
    hold: () => worker.ref(),
    release: () => worker.unref(),
    async stop() {
      over = true;
      worker.postMessage(STOP);
      const timer = setTimeout(() => worker.terminate(), STOP_TIMEOUT_MS);
      await exited;
      clearTimeout(timer);
    },
  };
}
