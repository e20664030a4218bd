import { Worker } from "node:worker_threads";
import { deserializeError, NextvladError } from "../base/errors.js";
import { SLOW_MS, SlowWatch } from "../base/waiting.js";
import type { StoredArray } from "../runtime/variables.js";
import type { CopiedArray, SnapshotReply, SnapshotTask } from "./snapshot-worker.js";

const WORKER_MODULE = new URL("./snapshot-worker.js", import.meta.url);

/** Copies arrays from the device to host memory, so that training can change the originals meanwhile. The copies take as many bytes as the arrays. */
export function copyArrays(arrays: Iterable<Pick<StoredArray, "name" | "shape" | "download">>): readonly CopiedArray[] {
  return Array.from(arrays, ({ name, shape, ...array }) => ({ name, shape, values: array.download() }));
}

/**
 * Writes a snapshot in a worker thread. Takes ownership of the arrays' buffers: they are transferred to the worker and freed when it exits.
 * A failed write is passed to `warn` and retried once. Rejects with the second failure (FILE_UNWRITABLE, SAVE_DIR_TAKEN), with NOT_FINITE if an array holds NaN
 * or Inf, or with WORKER_DIED.
 * Slow writes (minutes) are reported to `onSlow`: see `SlowWatch`.
 */
export function writeInBackground(
  task: SnapshotTask,
  warn: (error: NextvladError) => void,
  onSlow: (waitedMs: number) => void = () => undefined,
  slowMs = SLOW_MS,
): Promise<void> {
  const transferList = [...task.weights, ...task.moments, ...task.ema].map(({ values }) => values.buffer);
  const worker = new Worker(WORKER_MODULE, { workerData: task, transferList });
  const watch = new SlowWatch(onSlow, slowMs);
  watch.start();
  const written = new Promise<void>((resolve, reject) => {
    const died = (why: string, cause?: unknown): void =>
      reject(new NextvladError("WORKER_DIED", `the thread that writes the snapshot exited: ${why}`, { file: task.path }, cause));
    worker.on("message", (message: SnapshotReply) => {
      if (message.type === "retry") warn(deserializeError(message.error));
      else if (message.type === "failed") reject(deserializeError(message.error));
      else resolve();
    });
    worker.on("error", (error) => died(error.message, error));
    worker.on("exit", (code) => died(`exit code ${code}`));
  });
  return written.finally(() => watch.stop());
}
